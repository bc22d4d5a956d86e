"""CVE-2023-2431: a profile of the node's disk that is none must never start a container, least of all unconfined."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.container_spec.facts import SpecError
from agent.pods.seccomp_file import check_seccomp_files

GOOD = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'


def check(root: Path, name: str) -> None:
    check_seccomp_files([str(root / "seccomp" / name)], str(root))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "seccomp").mkdir()
    return tmp_path


def test_a_good_profile_is_taken(home: Path) -> None:
    (home / "seccomp/p.json").write_text(GOOD)
    check(home, "p.json")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (None, "No such file or directory"),
        ("", "Input data was truncated"),
        ("{}", "missing required field `defaultAction`"),
        ("[]", "Expected `object`"),
        ('{"defaultAction": ""}', "defaultAction '' is no action"),
    ],
)
def test_cve_2023_2431_one_that_is_missing_empty_or_none_is_refused(home: Path, text: str | None, cause: str) -> None:
    if text is not None:
        (home / "seccomp/p.json").write_text(text)
    with pytest.raises(SpecError, match=f"cannot load seccomp profile .*p.json: .*{cause}"):
        check(home, "p.json")


def test_cve_2023_2431_a_link_that_leads_out_is_refused(home: Path) -> None:
    (home / "other.json").write_text(GOOD)
    (home / "seccomp/link.json").symlink_to(home / "other.json")
    with pytest.raises(SpecError, match="it lies outside of"):
        check(home, "link.json")
    with pytest.raises(SpecError, match="it lies outside of"):
        check(home, "../other.json")
