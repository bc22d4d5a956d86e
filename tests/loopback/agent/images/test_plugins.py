"""Credential provider plugins: their configuration, and real programs that answer, fail, hang and lie."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from agent.config import ConfigError, load_config
from agent.images import plugins as module
from agent.images.keyring import CredentialError
from agent.images.plugins import CredentialPlugins
from agent.images.provider_config import Provider, parse_plugin_answer, parse_provider_config

CANARY = "hunter2-canary"
CONFIG = """
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: plug
  matchImages: ["*.registry.io", "registry.io:5000/team"]
  defaultCacheDuration: 12h
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get]
  env: [{name: REGION, value: eu}]
"""


def test_a_configuration_is_read() -> None:
    assert parse_provider_config(CONFIG.encode()) == (
        Provider("plug", ("*.registry.io", "registry.io:5000/team"), 43200.0, ("get",), (("REGION", "eu"),)),
    )


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("name: plug", "name: ../plug", "providers[0].name: '../plug' must be the name of a program"),
        ("12h", "soon", "providers[0].defaultCacheDuration: "),
        ("credentialprovider.kubelet.k8s.io/v1\n", "credentialprovider.kubelet.k8s.io/v9\n", "providers[0].apiVersion"),
        ("kind: CredentialProviderConfig", "kind: Other", "must be a CredentialProviderConfig"),
        ('["*.registry.io", "registry.io:5000/team"]', "[]", "providers[0].matchImages: at least one is required"),
        ("args: [get]", "arg: [get]", "providers[0].arg: "),
        ("args: [get]", "tokenAttributes: {}", "providers[0].tokenAttributes: there are no service account tokens"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(old: str, new: str, cause: str) -> None:
    with pytest.raises(ValueError, match=r"must|at least|unknown|there are|duration") as caught:
        parse_provider_config(CONFIG.replace(old, new).encode())
    assert str(caught.value).startswith(cause)


def answer(**changes: object) -> str:
    whole: dict[str, object] = {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "cacheDuration": "5m0s",
        "auth": {"*.registry.io": {"username": "me", "password": CANARY}},
    }
    return json.dumps({**whole, **changes})


@pytest.mark.parametrize(
    "text",
    [CANARY, answer(kind=CANARY), answer(cacheKeyType=CANARY), answer(cacheDuration=CANARY), answer(auth=CANARY)],
)
def test_an_answer_that_is_none_is_told_without_any_of_it(text: str) -> None:
    with pytest.raises(CredentialError) as caught:
        parse_plugin_answer(text.encode())
    assert CANARY not in str(caught.value)


class Programs:
    """A directory of plugins. Each run of `plug` adds a line to `runs`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now_s = 1000.0

    def write(self, reply: str, *, tail: str = "") -> None:
        (self.home / "reply").write_text(reply)
        program = self.home / "plug"
        program.write_text(
            f'#!/bin/sh\ncat > {self.home}/request\necho "$1 $REGION" >> {self.home}/runs\n'
            f"echo {CANARY} >&2\ncat {self.home}/reply\n{tail}\n"
        )
        program.chmod(0o755)

    @property
    def runs(self) -> list[str]:
        found = self.home / "runs"
        return found.read_text().splitlines() if found.exists() else []

    def made(self) -> CredentialPlugins:
        return CredentialPlugins(parse_provider_config(CONFIG.encode()), str(self.home), now=lambda: self.now_s)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


async def test_a_plugin_is_asked_in_its_own_words_and_kept_as_long_as_it_says(programs: Programs) -> None:
    programs.write(answer())
    plugins = programs.made()
    (found,) = await plugins.credentials("eu.registry.io/a:1")
    assert (found.auth.username, found.auth.password) == ("me", CANARY)
    assert json.loads((programs.home / "request").read_text()) == {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderRequest",
        "image": "eu.registry.io/a:1",
    }
    assert programs.runs == ["get eu"]
    await asyncio.gather(*(plugins.credentials(f"eu.registry.io/{name}") for name in "abc"))
    assert len(programs.runs) == 1
    await plugins.credentials("us.registry.io/a")
    assert len(programs.runs) == 2
    programs.now_s += 301
    await plugins.credentials("eu.registry.io/a")
    assert len(programs.runs) == 3
    assert await plugins.credentials("elsewhere.io/a") == ()
    assert len(programs.runs) == 3


@pytest.mark.parametrize(
    ("reply", "images", "runs"),
    [
        (answer(cacheKeyType="Global"), ("eu.registry.io/a", "us.registry.io/b"), 1),
        (answer(cacheKeyType="Image"), ("eu.registry.io/a:1", "eu.registry.io/a:2"), 1),
        (answer(cacheKeyType="Image"), ("eu.registry.io/a", "eu.registry.io/b"), 2),
        (answer(cacheDuration="0s"), ("eu.registry.io/a", "eu.registry.io/a"), 2),
        (answer(cacheDuration=None), ("eu.registry.io/a", "eu.registry.io/a"), 1),
    ],
)
async def test_how_long_and_for_what_an_answer_is_kept(
    programs: Programs, reply: str, images: tuple[str, str], runs: int
) -> None:
    programs.write(reply)
    plugins = programs.made()
    for image in images:
        await plugins.credentials(image)
    assert len(programs.runs) == runs


@pytest.mark.parametrize(
    ("reply", "tail", "cause"),
    [
        (answer(), "exit 3", "ended with exit status 3"),
        ("nonsense", "", "no CredentialProviderResponse"),
        (answer(), "sleep 60", "no answer within 0.5 s"),
    ],
)
async def test_a_plugin_that_fails_is_told_once_and_the_pull_goes_on_without(
    programs: Programs,
    reply: str,
    tail: str,
    cause: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "RUN_S", 0.5)
    caplog.set_level(logging.DEBUG)
    programs.write(reply, tail=tail)
    plugins = programs.made()
    assert await plugins.credentials("eu.registry.io/a") == ()
    assert await plugins.credentials("eu.registry.io/a") == ()
    told = [record.getMessage() for record in caplog.records if "plugin plug" in record.getMessage()]
    assert len(told) == 1
    assert cause in told[0]
    assert CANARY not in caplog.text


def test_flags_need_each_other_and_programs_that_are_there(programs: Programs, tmp_path: Path) -> None:
    config = tmp_path / "providers.yaml"
    config.write_text(CONFIG)
    both = [f"--image-credential-provider-config={config}", f"--image-credential-provider-bin-dir={programs.home}"]
    base = [f"--root-dir={tmp_path}", "--hostname-override=n"]
    with pytest.raises(ConfigError, match="need each other"):
        load_config([*base, both[0]])
    with pytest.raises(ConfigError, match="plugin 'plug' is no program in"):
        load_config([*base, *both])
    programs.write(answer())
    assert [one.name for one in load_config([*base, *both]).credential_providers] == ["plug"]
    directory = tmp_path / "providers.d"
    directory.mkdir()
    (directory / "10-a.yaml").write_text(CONFIG)
    (directory / "20-b.yaml").write_text(CONFIG)
    with pytest.raises(ConfigError, match="duplicate plugin 'plug'"):
        load_config([*base, f"--image-credential-provider-config={directory}", both[1]])
    config.write_text(CONFIG.replace("name: plug", "name: a/b"))
    with pytest.raises(ConfigError, match=r"providers\[0\].name"):
        load_config([*base, *both])
