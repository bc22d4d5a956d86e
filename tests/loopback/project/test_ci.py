"""What .ci/run makes of the runs of `make test`: it ends as make did, and its last line counts them all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_RUN = Path(__file__).parents[3] / ".ci" / "run"
_FIRST = "======= 2 failed, 40 passed, 3 skipped, 1 error in 61.25s (0:01:01) ======="
_SECOND = "======= 17 passed, 1 skipped, 2 errors in 30.50s ======="


@pytest.mark.parametrize(
    ("lines", "status", "last"),
    [
        ([_SECOND], 0, "==== 17 passed, 1 skipped, 2 error in 30.50s ===="),
        ([_FIRST, _SECOND], 0, "==== 2 failed, 57 passed, 4 skipped, 3 error in 91.75s ===="),
        ([_FIRST, _SECOND], 1, "==== 2 failed, 57 passed, 4 skipped, 3 error in 91.75s ===="),
        (["5 passed in 0.10s", "nothing more"], 1, "==== 5 passed in 0.10s ===="),
        (["cannot build anything"], 1, ""),
    ],
)
def test_the_last_line_counts_every_run(tmp_path: Path, lines: list[str], status: int, last: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(_RUN, tmp_path / ".ci" / "run")
    recipe = "".join(f"\t@echo '{line}'\n" for line in lines)
    (tmp_path / "Makefile").write_text(f"test:\n{recipe}\t@exit {status}\n")
    done = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode != 0) == (status != 0)
    closing = [line for line in done.stdout.splitlines() if line.startswith("==== ")]
    assert closing == ([last] if last else [])
