"""/statusz and /flagz: what this program is, and with which flags it runs.  Pure.

Before: a daemon's own server was asked.  Next: nothing.  Text is for people, JSON for programs that ask for
this very kind of object.
Sources: KEP-4827 (statusz), KEP-4828 (flagz), k8s.io/apiserver/pkg/server/{statusz,flagz}.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from aiohttp import web

GROUP = "config.k8s.io"
VERSIONS = ("v1alpha1", "v1beta1")
_MAX_ACCEPT = 4096
_MEDIA = ("application/json", "application/yaml", "text/plain")
_HEAD = (
    "\n{component} {page}\nWarning: This endpoint is not meant to be machine parseable, has no formatting "
    "compatibility guarantees and is for debugging purposes only.\n"
)


class NotAcceptableError(ValueError):
    """There is no answer of the types that are asked for: status 406, with this text."""


def statusz(
    component: str, accept: str, started_s: float, now_s: float, python: str, version: str, firsts: Iterable[str]
) -> web.Response:
    """`component` such as kubelet, `version` that of Kubernetes (v1.36.3); `firsts` are the first parts of the
    paths that are served.  Raises NotAcceptableError.
    """
    started = datetime.datetime.fromtimestamp(started_s, datetime.UTC)
    up_s = max(0, int(now_s - started_s))
    binary, paths = version.removeprefix("v"), [f"/{first}" for first in sorted(firsts)]
    values = {
        "startTime": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "uptimeSeconds": up_s,
        "goVersion": python,
        "binaryVersion": binary,
        "emulationVersion": ".".join(binary.split(".")[:2]),
        "paths": paths,
    }
    text = (
        f"\nStarted: {started:%a %b %d %H:%M:%S UTC %Y}\n"
        f"Up: {up_s // 3600} hr {up_s // 60 % 60:02d} min {up_s % 60:02d} sec\n"
        f"Python version: {python}\nBinary version: {binary}\n"
        f"Emulation version: {values['emulationVersion']}\nPaths: {' '.join(paths)}\n"
    )
    return _answer(component, accept, "Statusz", values, text)


def flagz(component: str, accept: str, flags: Mapping[str, str]) -> web.Response:
    """Raises NotAcceptableError."""
    return _answer(
        component, accept, "Flagz", {"flags": flags}, "".join(f"{name}={flags[name]}\n" for name in sorted(flags))
    )


def _answer(component: str, accept: str, kind: str, values: Mapping[str, Any], text: str) -> web.Response:
    media, version = negotiate(accept, kind)
    if media == "text/plain":
        return web.Response(text=f"{_HEAD.format(component=component, page=kind.lower())}{text}")
    found = {"kind": kind, "apiVersion": f"{GROUP}/{version}", "metadata": {"name": component}, **values}
    headers = {"Content-Type": f"{media};g={GROUP};v={version};as={kind}"}
    if version == VERSIONS[0]:
        old = f"This version of the {kind.lower()} endpoint is deprecated. Please use a newer version."
        headers["Warning"] = f'299 - "{old}"'
    encode = msgspec.yaml.encode if media == "application/yaml" else msgspec.json.encode
    return web.Response(body=encode(found), headers=headers)


def negotiate(accept: str, kind: str) -> tuple[str, str]:
    """The media type of the answer, and the version of the object ("" for text).  Raises NotAcceptableError.

    JSON and YAML are only for who names group, version and kind, as the original wants it.
    """
    if not accept.strip():
        return "text/plain", ""
    for wanted, parameters in _clauses(accept[:_MAX_ACCEPT]):
        version = parameters.get("v", "") if parameters.get("g") == GROUP and parameters.get("as") == kind else ""
        for media in _MEDIA:
            if wanted not in (media, f"{media.partition('/')[0]}/*", "*/*"):
                continue
            if media == "text/plain" and "as" not in parameters:
                return media, ""
            if media != "text/plain" and version in VERSIONS:
                return media, version
    raise NotAcceptableError(f"only the following media types are accepted: {', '.join(_MEDIA)}")


def _clauses(accept: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Those that are wanted most come first."""
    found = []
    for clause in accept.split(","):
        media, *rest = (part.strip() for part in clause.split(";"))
        parameters = {name: value.strip('"') for name, _, value in (part.partition("=") for part in rest)}
        found.append((media.lower(), parameters))
    yield from sorted(found, key=lambda one: -_weight(one[1].get("q", "1")))


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
