"""A kubeconfig file -> `ApiConfig`, as client-go reads it.  `parse_kubeconfig` is pure, `read_kubeconfig` reads a file.

Before: a path.  Next: `kube_client.client`.  Source: client-go tools/clientcmd/api/v1 of v0.36.
Ours: `server` may name several API servers, separated by commas.  As in client-go, names that nobody knows are left
alone; here a warning names them.  What would send other credentials than asked for is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from daemonkit.strict import field_path, suggest
from daemonkit.yaml_text import Document, TextError, parse_documents
from kube_client.config import ApiConfig, ConfigError, Material

_CLUSTER = (
    "server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority", "certificate-authority-data",
    "proxy-url", "disable-compression", "extensions",
)  # fmt: skip
_USER = (
    "client-certificate", "client-certificate-data", "client-key", "client-key-data", "token", "tokenFile", "as",
    "as-uid", "as-groups", "as-user-extra", "username", "password", "auth-provider", "exec", "extensions",
)  # fmt: skip
_REFUSED_USER = {
    "exec": "credential plugins are not run; use a client certificate, token or tokenFile",
    "auth-provider": "is gone, Kubernetes removed it in 1.26; use a client certificate, token or tokenFile",
    "username": "basic authentication is gone, Kubernetes removed it in 1.19; use a client certificate or token",
    "password": "basic authentication is gone, Kubernetes removed it in 1.19; use a client certificate or token",
    **dict.fromkeys(("as", "as-uid", "as-groups", "as-user-extra"), "impersonation is not supported"),
}


def read_kubeconfig(path: Path) -> ApiConfig:
    """The current context of the file.  Raises ConfigError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read kubeconfig {path}: {error.strerror}") from None
    return parse_kubeconfig(data, path)


def parse_kubeconfig(data: bytes, path: Path) -> ApiConfig:
    """See `read_kubeconfig`; `path` is named in errors, and relative paths in the file start beside it."""
    try:
        documents = parse_documents(data)
    except TextError as error:
        where = f"{path}:{error.line}" if error.line is not None else f"{path}"
        raise ConfigError(f"{where}: {error.message}") from None
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise ConfigError(f"{path}: must hold one kubeconfig (kind Config)")
    top = _Map(documents[0], path, (), documents[0].value)
    top.expect("kind", "Config")
    top.expect("apiVersion", "v1")
    context = top.named("contexts", "context", top.required_text("current-context"), "current-context")
    cluster = top.named("clusters", "cluster", context.required_text("cluster"), "the context's cluster")
    user_name = context.text("user")
    user = (
        top.named("users", "user", user_name, "the context's user") if user_name else _Map(top.document, path, (), {})
    )
    _refuse(cluster, user)
    ca, insecure = cluster.material("certificate-authority"), cluster.boolean("insecure-skip-tls-verify")
    if ca is not None and insecure:
        raise cluster.error("insecure-skip-tls-verify", "must not be true where a certificate-authority is given")
    certificate, key = user.material("client-certificate"), user.material("client-key")
    if (certificate is None) != (key is None):
        given, lacking = ("client-certificate", "client-key") if key is None else ("client-key", "client-certificate")
        at = given if user.text(given) else f"{given}-data"
        raise user.error(at, f"needs {lacking} or {lacking}-data beside it")
    return ApiConfig(
        servers=server_urls(cluster.required_text("server"), cluster.where("server")),
        ca=ca,
        certificate=certificate,
        key=key,
        token=user.text("token"),
        token_file=user.path("tokenFile"),
        insecure=insecure,
        server_name=cluster.text("tls-server-name"),
        compressed=not cluster.boolean("disable-compression"),
        warnings=(*cluster.unknown(_CLUSTER), *user.unknown(_USER)),
    )


def server_urls(text: str, where: str) -> tuple[str, ...]:
    """URLs of API servers, separated by commas.  Raises ConfigError that begins with `where`."""
    found = []
    for part in text.split(","):
        url = part.strip().rstrip("/")
        try:
            split = urlsplit(url)
            usable = split.scheme in ("https", "http") and bool(split.hostname) and (split.port or 1) > 0
        except ValueError:
            usable = False
        if not usable or split.query or split.fragment or split.username is not None:
            raise ConfigError(f"{where}: {part.strip()!r} is not a URL such as https://10.0.0.1:6443")
        found.append(url)
    return tuple(dict.fromkeys(found))


def _refuse(cluster: _Map, user: _Map) -> None:
    if cluster.text("proxy-url"):
        raise cluster.error("proxy-url", "proxies are not supported; the API server must be reachable directly")
    for name, why in _REFUSED_USER.items():
        if user.value.get(name):
            raise user.error(name, why)


@dataclass(frozen=True, slots=True)
class _Map:
    """A mapping of the file that knows where it stands."""

    document: Document
    file: Path
    at: tuple[str | int, ...]
    value: Mapping[str, object]

    def where(self, name: str) -> str:
        here = (*self.at, name)
        line = self.document.line_of(here)
        return f"{self.file}:{line}: {field_path(here)}" if line is not None else f"{self.file}: {field_path(here)}"

    def error(self, name: str, message: str) -> ConfigError:
        return ConfigError(f"{self.where(name)}: {message}")

    def expect(self, name: str, wanted: str) -> None:
        # client-go takes a file that does not say what it is.
        if (found := self.text(name)) and found != wanted:
            raise self.error(name, f"must be {wanted}, not {found!r}")

    def text(self, name: str) -> str:
        found = self.value.get(name)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise self.error(name, f"must be a string, not {found!r}")
        return found

    def required_text(self, name: str) -> str:
        found = self.text(name)
        if not found:
            raise self.error(name, "required field is missing")
        return found

    def boolean(self, name: str) -> bool:
        found = self.value.get(name)
        if found is not None and not isinstance(found, bool):
            raise self.error(name, f"must be true or false, not {found!r}")
        return bool(found)

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        return self.file.parent / text if text else None

    def material(self, name: str) -> Material | None:
        """The field NAME-data, which comes first, or the file that NAME names."""
        if text := self.text(f"{name}-data"):
            try:
                data = base64.b64decode(text, validate=True)
            except binascii.Error:
                raise self.error(f"{name}-data", "is not base64") from None
            return Material(self.where(f"{name}-data"), data=data)
        path = self.path(name)
        return Material(self.where(name), path=path) if path is not None else None

    def named(self, list_name: str, field: str, name: str, wanted_by: str) -> _Map:
        """The mapping `field` of the element with this name."""
        elements = self.value.get(list_name) or []
        if not isinstance(elements, list) or not all(isinstance(element, dict) for element in elements):
            raise self.error(list_name, "must be a list of mappings")
        names = [str(element.get("name") or "") for element in elements]
        if name not in names:
            raise self.error(list_name, f"has no {name!r}, which {wanted_by} names{suggest(name, names)}")
        index = names.index(name)
        found = elements[index].get(field)
        if not isinstance(found, dict):
            raise _Map(self.document, self.file, (list_name, index), {}).error(field, "must be a mapping")
        return _Map(self.document, self.file, (list_name, index, field), found)

    def unknown(self, known: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            f"{self.where(name)}: unknown field, which has no effect{suggest(name, known)}"
            for name in self.value
            if name not in known
        )
