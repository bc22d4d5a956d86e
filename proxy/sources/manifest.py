"""One file of the service directory -> facts.  Pure.

Before: `proxy.sources.directory` read the bytes.  Next: `proxy.resolve` joins the facts of all files.
"""

from __future__ import annotations

from daemonkit.strict import field_path
from kube_objects.manifest import ManifestError, read_document, read_single
from proxy.endpoints import SliceFacts
from proxy.services import ServiceFacts
from proxy.sources.api_types import EndpointSlice, Service
from proxy.sources.invalid import Invalid
from proxy.sources.service_manifest import service_facts
from proxy.sources.slice_manifest import slice_facts

_KINDS: dict[tuple[str, str], type] = {
    ("v1", "Service"): Service,
    ("discovery.k8s.io/v1", "EndpointSlice"): EndpointSlice,
}


def parse_manifest(data: bytes, path: str) -> ServiceFacts | SliceFacts:
    """The one Service or EndpointSlice of a file.

    `path` names the file in the facts and in errors.  Raises ManifestError with field and line.
    """
    document = read_single(data, path)
    decoded = read_document(document, path, _KINDS)
    try:
        if isinstance(decoded, Service):
            return service_facts(decoded, path)
        assert isinstance(decoded, EndpointSlice)  # noqa: S101 # _KINDS names no third type
        return slice_facts(decoded, path)
    except Invalid as error:
        raise ManifestError(path, error.message, field_path(error.path), document.line_of(error.path)) from None
