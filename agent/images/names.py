"""Image names: what the user writes, and what it means. Pure.

Source: the reference grammar of the OCI distribution specification as container runtimes read it (`[host[:port]/]path
[:tag][@digest]`, a first part with a dot or colon, or `localhost`, is a host; else docker.io, and a single part is
below library/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_PART}(?:/{_PATH_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_ID = re.compile(r"[a-f0-9]{64}")
_MAX_NAME = 255


@dataclass(frozen=True)
class ImageName:
    """A parsed name; `tag` and `digest` are "" where not written."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.path}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse_image_name(text: str) -> ImageName:
    """Parse a name as written in a pod.  Raises ValueError with the runtime's usual words."""
    if _ID.fullmatch(text):
        raise _invalid(text, "cannot specify 64-byte hexadecimal strings")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text)
    head, slash, tail = rest.rpartition("/")
    tail, colon, tag = tail.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _invalid(text)
    whole = f"{head}{slash}{tail}"
    first, slash, path = whole.partition("/")
    if not slash or not (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        first, path = "docker.io", whole if "/" in whole else f"library/{whole}"
    elif first in ("docker.io", "index.docker.io"):
        first, path = "docker.io", path if "/" in path else f"library/{path}"
    if path != path.lower():
        raise _invalid(text, "repository name must be lowercase")
    if not _DOMAIN.fullmatch(first) or not _PATH.fullmatch(path):
        raise _invalid(text)
    if len(path) > _MAX_NAME:
        raise _invalid(text, f"repository name must not be more than {_MAX_NAME} characters")
    return ImageName(first, path, tag, digest)


def with_default_tag(text: str) -> str:
    """The name as written, `:latest` added where it has neither tag nor digest.  Raises ValueError."""
    name = parse_image_name(text)
    return text if name.tag or name.digest else f"{text}:latest"


def without_tag(text: str) -> str:
    """The name as written, without tag and digest.  Raises ValueError."""
    name = parse_image_name(text)
    return text.removesuffix(f"@{name.digest}" if name.digest else "").removesuffix(f":{name.tag}" if name.tag else "")


def _invalid(text: str, cause: str = "") -> ValueError:
    detail = f"invalid repository name ({text}), {cause}" if cause.startswith("cannot") else cause
    return ValueError(f'couldn\'t parse image name "{text}": {detail or "invalid reference format"}')
