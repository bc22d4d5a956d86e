"""`make demo`: the whole node on this machine in under two minutes, and the proof that nothing of it is left;
`make demo-cluster` (`--cluster`): the same for a Kubernetes cluster of this one machine. I/O.

Before: `make deps venv`. Next: nothing. Cleans up after Ctrl-C, a failed scene and, with `--clean`, after a demo that
was killed. Exit status: 0, 1 when a scene failed or something is left, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from lab import inventory
from lab.demo_cluster import ClusterStory
from lab.demo_machine import BASE, MARKS, DemoMachine, clean, noted_inventory
from lab.demo_story import Story
from lab.machine import LabError
from lab.node import daemon


def main() -> int:
    """Do what the module's docstring says; the exit status."""
    parser = argparse.ArgumentParser(
        prog="lab.demo", description="Three pods, a Service, failures and recovery on this machine."
    )
    parser.add_argument("--keep", action="store_true", help="leave it running and print how to look around")
    parser.add_argument("--mode", choices=("iptables", "nftables"), default="iptables", help="mode of the proxy")
    parser.add_argument("--cluster", action="store_true", help="the machine becomes a Kubernetes cluster instead")
    parser.add_argument("--clean", action="store_true", help="only remove what an earlier demo left")
    arguments = parser.parse_args()
    # An output that is not a terminal has no width of its own.
    console = Console(width=None if sys.stdout.isatty() else 120)
    if os.geteuid() != 0:
        if arguments.clean and not BASE.exists():
            return 0
        console.print("cannot run the demo: needs root")
        return 1
    if arguments.clean:
        before = noted_inventory()
        return 0 if before is None else _prove(console, before)
    with signals_interrupt():
        return _demo(console, arguments)


def _demo(console: Console, arguments: argparse.Namespace) -> int:
    if BASE.exists():
        console.print(f"[red]cannot start the demo: {BASE} exists: another one runs or was killed; `make clean`[/]")
        return 1
    started_s = time.monotonic()
    before = inventory.take(MARKS)
    machine = DemoMachine(before, arguments.mode)
    try:
        status, hints = _play(console, machine, cluster=arguments.cluster, keep=arguments.keep)
        if arguments.keep and status == 0:
            _tell_how_to_look_around(console, machine, hints)
            return 0
    except BaseException:
        _prove(console, before)
        raise
    status = _prove(console, before) or status
    console.print(f"  {time.monotonic() - started_s:.0f} s in all", highlight=False)
    return status


def _play(console: Console, machine: DemoMachine, *, cluster: bool, keep: bool) -> tuple[int, tuple[str, ...]]:
    """All scenes; 0, 1 with the reason on the console when one failed, 130 when interrupted; and how to look around."""
    hints: tuple[str, ...] = (f"curl http://{machine.vip}/",)
    try:
        node = machine.prepare(cluster=cluster)
        if cluster:
            story = ClusterStory(console, node, pod_network=machine.pods, service_network=machine.services)
            hints = story.hints()
            story.play(keep=keep)
        else:
            Story(console, node, machine.vip).play()
    except LabError as error:
        console.print(f"\n{error}", style="red", markup=False, highlight=False, soft_wrap=True)
        if machine.node is not None:
            console.print(machine.node.logs(), markup=False, highlight=False, soft_wrap=True)
        return 1, ()
    except KeyboardInterrupt:
        console.print("\ninterrupted")
        return 130, ()
    return 0, hints


def _prove(console: Console, before: inventory.Inventory) -> int:
    """Clean up, compare, and say what is left; 0 when nothing is."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    console.print("\n[bold]Cleaning up[/]")
    with console.status("removing daemons, rules, pods, containerd ..."):
        try:
            left = clean(before)
        except LabError as error:
            left = [str(error)]
    if left:
        console.print("[red]  not as before:[/]")
        for line in left:
            console.print(f"    {line}", markup=False, highlight=False)
        return 1
    console.print("  [green]nothing left[/]: as before are", highlight=False)
    for kind, lines in before.kinds.items():
        console.print(f"    {kind:<18} {len(lines):>4}", highlight=False)
    return 0


def _tell_how_to_look_around(console: Console, machine: DemoMachine, hints: tuple[str, ...]) -> None:
    node = machine.node
    assert node is not None
    longshore = f"{daemon('longshore')} --agent-socket {node.agent_socket} --proxy-socket {node.proxy_socket}"
    lines = (
        f"{longshore} pods",
        f"{longshore} services",
        *hints,
        f"ls {node.manifests} {node.services}      # edit, add, delete",
        f"{node.containerd.binaries.ctr} --address {node.containerd.socket} --namespace k8s.io containers ls",
        f"tail -f {node.base}/agent.log {node.base}/proxy.log",
        "nft list table ip longshore-proxy" if machine.mode == "nftables" else "iptables-save | grep KUBE-SVC",
        "make clean                                  # end it and remove everything",
    )
    console.print("\n[bold]It is still running[/]")
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal are Ctrl-C for us: the cleanup runs."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, action in previous.items():
        signal.signal(number, action)


if __name__ == "__main__":
    sys.exit(main())
