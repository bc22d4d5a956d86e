"""One manifest file to one typed object.

Before it: bytes read by `daemonkit.watch_dir`. After it: each daemon's own defaulting and validation of the kind. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from daemonkit.strict import FieldError, decode, field_path, suggest
from daemonkit.yaml_text import Document, Path, TextError, parse_documents


class ManifestError(ValueError):
    """A manifest cannot be used. `field` is "" when the whole file is meant, `line` counts from 1 or is None."""

    def __init__(self, path: str, message: str, field: str = "", line: int | None = None) -> None:
        super().__init__(path, message, field, line)
        self.path = path
        self.message = message
        self.field = field
        self.line = line

    def __str__(self) -> str:
        """One line: cannot read PATH:LINE: FIELD: MESSAGE."""
        where = f"{self.path}:{self.line}" if self.line is not None else self.path
        return one_line(f"cannot read {where}: {self.field + ': ' if self.field else ''}{self.message}")


def one_line(text: str) -> str:
    """The text with line breaks and control characters written as escapes: it may quote a file of anybody's."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def first_problem(problems: Iterable[tuple[Path, str]], document: Document, path: str) -> ManifestError:
    """The problem that stands first in the file, as an error that names field and line."""
    located = [(document.line_of(where) or 0, field_path(where), message) for where, message in problems]
    line, field, message = min(located, key=lambda one: one[0])
    more = f" (and {len(located) - 1} more)" if len(located) > 1 else ""
    return ManifestError(path, message + more, field, line or None)


def read_single(data: bytes, path: str) -> Document:
    """The only document of the file; for callers that want its lines (Document.line_of). Raises ManifestError."""
    try:
        documents = parse_documents(data)
    except TextError as error:
        raise ManifestError(path, error.message, line=error.line) from None
    if not documents:
        raise ManifestError(path, "file is empty")
    if len(documents) > 1:
        line = documents[1].line_of(())
        raise ManifestError(path, f"holds {len(documents)} documents, one object per file is allowed", line=line)
    return documents[0]


def read_document(document: Document, path: str, allowed: Mapping[tuple[str, str], type]) -> object:
    """The document decoded as the type of its (apiVersion, kind). Raises ManifestError."""
    if not isinstance(document.value, dict):
        raise ManifestError(
            path, "is not a Kubernetes object (a mapping with apiVersion and kind)", line=document.line_of(())
        )
    api_version = _type_field(document, path, "apiVersion")
    kind = _type_field(document, path, "kind")
    found = allowed.get((api_version, kind))
    if found is None:
        raise _wrong_kind(document, path, api_version, kind, allowed)
    too_large = _beyond_int64(document.value, ())
    if too_large is not None:
        raise ManifestError(path, "does not fit 64 bits", field_path(too_large), document.line_of(too_large))
    try:
        return decode(document, found)
    except FieldError as error:
        raise ManifestError(path, error.message, error.field, error.line) from None


def _beyond_int64(value: object, where: Path) -> Path | None:
    """Where the first integer is that no integer field of the API can hold."""
    if isinstance(value, dict):
        items: Iterable[tuple[str | int, object]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        beyond = isinstance(value, int) and not -(1 << 63) <= value < 1 << 63
        return where if beyond else None
    return next((found for key, item in items if (found := _beyond_int64(item, (*where, key))) is not None), None)


def _type_field(document: Document, path: str, name: str) -> str:
    assert isinstance(document.value, dict)  # noqa: S101 # narrowed by the only caller
    value = document.value.get(name)
    if value is None or value == "":
        near = next((key for key in document.value if key.lower() == name.lower() and key != name), None)
        hint = f" (found {near!r})" if near else ""
        raise ManifestError(path, f"required field is missing{hint}", name, document.line_of((near,) if near else ()))
    if not isinstance(value, str):
        raise ManifestError(path, f"must be a string, not {value!r}", name, document.line_of((name,)))
    return value


def _wrong_kind(
    document: Document, path: str, api_version: str, kind: str, allowed: Mapping[tuple[str, str], type]
) -> ManifestError:
    wanted = ", ".join(f"{one} {version}" for version, one in sorted(allowed, key=lambda pair: pair[1]))
    versions = [version for version, one in allowed if one == kind]
    if versions:
        message = (
            f"{api_version!r} has no {kind} that can be used here (allowed: {wanted}){suggest(api_version, versions)}"
        )
        return ManifestError(path, message, "apiVersion", document.line_of(("apiVersion",)))
    message = f"{kind!r} cannot be used here (allowed: {wanted}){suggest(kind, [one for _, one in allowed])}"
    return ManifestError(path, message, "kind", document.line_of(("kind",)))
