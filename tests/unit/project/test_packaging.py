"""What pyproject.toml says of this tree is true."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_INSTALLED = {"tests", "bench"}


def test_every_package_is_installed_and_no_other() -> None:
    present = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for init in ROOT.glob("*/**/__init__.py")
        if init.relative_to(ROOT).parts[0] not in NOT_INSTALLED and not init.relative_to(ROOT).parts[0].startswith(".")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == present


def test_package_markers_are_empty() -> None:
    packages = PROJECT["tool"]["setuptools"]["packages"]
    inits = [ROOT / name.replace(".", "/") / "__init__.py" for name in packages]
    assert [path for path in inits if path.stat().st_size] == []


def test_systemd_stays_no_package() -> None:
    assert not (ROOT / "systemd" / "__init__.py").exists(), "it would hide systemd-python"


def test_lock_pins_what_is_asked_for() -> None:
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {line.split(">=")[0].strip().lower() for line in wanted}
    locked = {
        line.split("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    }
    assert names <= locked


def pins(name: str) -> dict[str, str]:
    """Package -> version of a lock file."""
    lines = [line.split(" ")[0] for line in (ROOT / name).read_text().splitlines() if "==" in line]
    return {line.split("==")[0].lower(): line.split("==")[1] for line in lines}


def test_the_package_runs_the_versions_that_the_tests_ran() -> None:
    run, work = pins("requirements-run.lock"), pins("requirements.lock")
    assert run.items() <= work.items()
    assert {line.split(">=")[0].strip().lower() for line in PROJECT["project"]["dependencies"]} <= run.keys()
    assert run.keys().isdisjoint({"pytest", "mypy", "ruff", "uv"})


def test_debians_changelog_is_about_this_version() -> None:
    top = (ROOT / "debian" / "changelog").read_text().splitlines()[0]
    assert top.startswith(f"longshore ({PROJECT['project']['version']}) ")


def test_every_cited_document_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    cited = {part.split(")")[0] for part in readme.split("](")[1:]}
    missing = [name for name in cited if not (ROOT / name).exists()]
    assert missing == []
