"""`make demo-ha`: three control planes on this machine, one is killed while a client and kubectl work on; nothing of it
stays.  I/O.

Before: `make deps venv`, the control plane is built.  Next: nothing.  Cleans up after Ctrl-C, a failed scene and, with
`--clean`, after a demo that was killed.  Exit status: 0, 1 when a scene failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console

from lab import cgroups
from lab.demo import signals_interrupt
from lab.ha import HaLab
from lab.ha_story import HaStory
from lab.machine import LabError

BASE = Path(os.environ.get("LONGSHORE_DEMO_HA_BASE", "/var/lib/longshore-demo-ha"))


def main() -> int:
    """Do what the module's docstring says; the exit status."""
    parser = argparse.ArgumentParser(prog="lab.demo_ha", description="Three control planes, of which one is killed.")
    parser.add_argument("--clean", action="store_true", help="only remove what an earlier demo left")
    arguments = parser.parse_args()
    # An output that is not a terminal has no width of its own.
    console = Console(width=None if sys.stdout.isatty() else 120)
    if arguments.clean:
        return 0 if not BASE.exists() or not remove(HaLab(BASE)) else 1
    if os.geteuid() != 0:
        console.print("cannot run the demo: needs root")
        return 1
    if BASE.exists():
        console.print(f"[red]cannot start the demo: {BASE} exists: another one runs or was killed; `make clean`[/]")
        return 1
    with signals_interrupt():
        return _demo(console)


def _demo(console: Console) -> int:
    started_s = time.monotonic()
    BASE.mkdir(mode=0o711, parents=True)
    lab, status = HaLab(BASE), 0
    try:
        HaStory(console, lab).play()
    except LabError as error:
        console.print(f"\n{error}", style="red", markup=False, highlight=False, soft_wrap=True)
        status = 1
    except KeyboardInterrupt:
        console.print("\ninterrupted")
        status = 130
    finally:
        console.print("\n[bold]Cleaning up[/]")
        lab.close()
        left = remove(lab)
    for path in left:
        console.print(f"  [red]left:[/] {path}", highlight=False)
    console.print(f"  {'' if left else 'nothing left, '}{time.monotonic() - started_s:.0f} s in all", highlight=False)
    return 1 if left and not status else status


def remove(lab: HaLab) -> list[Path]:
    """What outlives the machines, which end with the demo however it ends: cgroups and directories; what is left."""
    for machine in lab.machines:
        cgroups.kill_and_remove(machine.host.cgroup_root)
    shutil.rmtree(lab.base, ignore_errors=True)
    groups = [top / one.host.cgroup_root.lstrip("/") for top in cgroups.hierarchies() for one in lab.machines]
    return [path for path in (lab.base, *groups) if path.exists()]


if __name__ == "__main__":
    sys.exit(main())
