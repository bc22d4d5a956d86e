"""The file of --image-credential-provider-config, and what is said to a plugin and heard from it.

Pure.  Before: agent/config has read the files.  Next: plugins.py runs the programs.  Source: KEP-2133;
kubelet.config.k8s.io/v1 CredentialProviderConfig, credentialprovider.kubelet.k8s.io/v1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from agent.images.keyring import Credential, CredentialError, plugin_credentials
from daemonkit.duration import parse_duration
from daemonkit.strict import FieldError, decode
from daemonkit.yaml_text import Document, TextError, parse_documents

CONFIG_VERSIONS = ("kubelet.config.k8s.io/v1",)
PLUGIN_VERSION = "credentialprovider.kubelet.k8s.io/v1"
CACHE_KEYS = ("Image", "Registry", "Global")


class _Variable(msgspec.Struct):
    name: str
    value: str


class _Provider(msgspec.Struct):
    name: str
    matchImages: list[str]  # noqa: N815 - the file's own spelling
    defaultCacheDuration: str  # noqa: N815
    apiVersion: str  # noqa: N815
    args: list[str] = []
    env: list[_Variable] = []
    tokenAttributes: dict[str, object] | None = None  # noqa: N815


class _Config(msgspec.Struct):
    apiVersion: str  # noqa: N815
    kind: str
    providers: list[_Provider]


@dataclass(frozen=True)
class Provider:
    """One plugin: program `name` in the directory of plugins, asked for images that fit one of `match_images`."""

    name: str
    match_images: tuple[str, ...]
    cache_s: float
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a plugin said: for how long (seconds, None: the configured time) and for what it holds."""

    key_type: str
    cache_s: float | None
    credentials: tuple[Credential, ...] = field(default=(), repr=False)


def parse_provider_config(data: bytes) -> tuple[Provider, ...]:
    """The plugins of one file.  Raises ValueError whose text names field and line."""
    try:
        documents = parse_documents(data)
    except TextError as error:
        raise ValueError(error.message) from None
    if len(documents) != 1:
        raise ValueError("must hold one CredentialProviderConfig")
    return tuple(_providers(documents[0]))


def _providers(document: Document) -> Iterable[Provider]:
    try:
        config = decode(document, _Config)
    except FieldError as error:
        raise ValueError(str(error)) from None
    if config.kind != "CredentialProviderConfig" or config.apiVersion not in CONFIG_VERSIONS:
        raise ValueError(f"must be a CredentialProviderConfig of {CONFIG_VERSIONS[0]}")
    if not config.providers:
        raise ValueError("providers: at least one is required")
    names: set[str] = set()
    for index, one in enumerate(config.providers):
        where = f"providers[{index}]"
        problem = _name_problem(one.name, names)
        if problem:
            raise ValueError(f"{where}.name: {problem}")
        names.add(one.name)
        if one.apiVersion != PLUGIN_VERSION:
            raise ValueError(f"{where}.apiVersion: must be {PLUGIN_VERSION}, not {one.apiVersion!r}")
        if one.tokenAttributes is not None:
            raise ValueError(f"{where}.tokenAttributes: there are no service account tokens without an API server")
        if not one.matchImages:
            raise ValueError(f"{where}.matchImages: at least one is required")
        try:
            cache_s = parse_duration(one.defaultCacheDuration)
        except ValueError as error:
            raise ValueError(f"{where}.defaultCacheDuration: {error}") from None
        if cache_s < 0:
            raise ValueError(f"{where}.defaultCacheDuration: must not be negative")
        yield Provider(
            one.name, tuple(one.matchImages), cache_s, tuple(one.args), tuple((v.name, v.value) for v in one.env)
        )


def _name_problem(name: str, names: set[str]) -> str:
    if not name or "/" in name or " " in name or name in (".", ".."):
        return f"{name!r} must be the name of a program, without '/' and blanks"
    return f"duplicate name {name!r}" if name in names else ""


def plugin_request(image: str) -> bytes:
    """What a plugin reads."""
    return json.dumps({"apiVersion": PLUGIN_VERSION, "kind": "CredentialProviderRequest", "image": image}).encode()


class _PluginAuth(msgspec.Struct):
    username: str = ""
    password: str = ""


class _Response(msgspec.Struct):
    apiVersion: str  # noqa: N815
    kind: str
    cacheKeyType: str  # noqa: N815
    cacheDuration: str | None = None  # noqa: N815
    auth: dict[str, _PluginAuth] | None = None


def parse_plugin_answer(data: bytes) -> Answer:
    """What a plugin wrote.  Raises CredentialError, which quotes nothing of it."""
    try:
        response = msgspec.json.decode(data, type=_Response)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CredentialError("answered with something that is no CredentialProviderResponse") from None
    if response.kind != "CredentialProviderResponse" or response.apiVersion != PLUGIN_VERSION:
        raise CredentialError(f"answered with something that is no CredentialProviderResponse of {PLUGIN_VERSION}")
    if response.cacheKeyType not in CACHE_KEYS:
        raise CredentialError(f"answered without a cacheKeyType of {', '.join(CACHE_KEYS)}")
    cache_s = None
    if response.cacheDuration is not None:
        try:
            cache_s = parse_duration(response.cacheDuration)
        except ValueError:
            raise CredentialError("answered with a cacheDuration that is no duration") from None
    pairs = {pattern: (one.username, one.password) for pattern, one in (response.auth or {}).items()}
    return Answer(response.cacheKeyType, cache_s, plugin_credentials(pairs))
