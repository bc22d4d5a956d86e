"""`longshore shutdown`: stop this node's pods because the machine goes down. What longshore-shutdown.service runs.

Before: systemd stops that unit, or a person asks. Next: POST /v1/shutdown of the agent; where none answers, an agent is
started for this one task. Effects: prints the progress a line at a time (into the journal, from the unit). Always
bounded: a machine that goes down must not hang because of us.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from cli.failure import FAILED, Failure
from cli.target import Json, Target, pass_target, send_lines
from daemonkit.system_state import GOING_DOWN, read_system_state

SILENCE_S = 15.0  # the agent says something each second
START_S = 30.0
MARGIN_S = 10.0
_END_S = 10.0


@click.command()
@click.option("--now", is_flag=True, help="Also when the machine does not go down; pods stay down until --cancel.")
@click.option("--cancel", is_flag=True, help="Let pods start again.")
@pass_target
def shutdown(target: Target, now: bool, cancel: bool) -> None:
    """Stop this node's pods, by priority and with their grace periods, before the machine goes down.

    Does nothing while the machine is not going down: to stop the unit, to upgrade or to restart it ends no pod.
    """
    if cancel:
        for line in send_lines(target.agent_socket, "DELETE", "/v1/shutdown", SILENCE_S):
            _tell(line)
        return
    if not now and (state := read_system_state()) != GOING_DOWN:
        click.echo(f"the machine is not going down (systemctl is-system-running: {state or 'no answer'}): pods go on")
        return
    last = _stop_pods(target, "person" if now else "stop-unit")
    if last["state"] == "idle":
        raise Failure("cannot stop all pods: the shutdown was called off", FAILED)
    if last["state"] not in ("down", "off") or last.get("message"):
        raise Failure(f"cannot stop all pods: {last.get('message') or last['state']}", FAILED)


def _stop_pods(target: Target, trigger: str) -> Json:
    """Have the agent do it, or one of our own. Raises Failure.

    An agent that dies in the middle is started again by systemd, but not while the machine goes down.
    """
    url = f"/v1/shutdown?trigger={trigger}"
    if _answers(target):
        try:
            return _follow(target, url)
        except Failure as failure:
            if trigger == "person" or _answers(target):
                raise
            click.echo(failure.message)
    click.echo("no agent answers: starting one to stop the pods")
    with _agent(target):
        return _follow(target, url)


def _follow(target: Target, url: str) -> Json:
    """Print what changes; the last word. Raises Failure, at the latest a moment after the agent's own bound."""
    last: Json = {}
    began_s = time.monotonic()
    for line in send_lines(target.agent_socket, "POST", url, SILENCE_S):
        if any(line.get(key) != last.get(key) for key in ("state", "podsLeft", "message")):
            _tell(line)
        last = line
        limit_s = float(line.get("budgetSeconds") or 0) + MARGIN_S
        if time.monotonic() - began_s > limit_s:
            raise Failure(f"cannot stop all pods: the agent is not done after {limit_s:.0f} s", FAILED)
    if last.get("state", "stopping") == "stopping":
        raise Failure("cannot stop the pods: the agent ended before it was done", FAILED)
    return last


def _tell(line: Json) -> None:
    left = line.get("podsLeft") or []
    text = {
        "off": "shutdownGracePeriod is 0: pods are not stopped before the machine goes down",
        "idle": "the node is not shutting down",
        "stopping": f"stopping pods, {len(left)} left: {', '.join(left)}" if left else "stopping pods",
        "down": "all pods are down",
    }.get(str(line.get("state")), str(line.get("state")))
    click.echo(str(line.get("message") or text))


def _answers(target: Target) -> bool:
    return bool(target.agent_status())


def _arguments_of_last_agent(path: Path) -> list[str]:
    """With another command line (node name, directories) it would take the pods for somebody else's."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except (OSError, ValueError) as error:
        raise Failure(
            f"cannot stop the pods: no agent answers, and how the last was started is not known: {error}"
        ) from None


@contextlib.contextmanager
def _agent(target: Target) -> Iterator[None]:
    """An agent of our own, with the command line of the last one; it is ended at the end. Pods need none to go on."""
    arguments = _arguments_of_last_agent(target.agent_socket.parent / "arguments.json")
    beside = Path(sys.argv[0]).with_name("longshore-agent")
    program = str(beside) if beside.exists() else shutil.which("longshore-agent")
    if program is None:
        raise Failure("cannot stop the pods: no agent answers, and longshore-agent is not installed", FAILED)
    process = subprocess.Popen([program, *arguments])
    try:
        give_up_s = time.monotonic() + START_S
        while not _answers(target):
            if process.poll() is not None:
                raise Failure(f"cannot stop the pods: no agent answers, one of our own ended with {process.returncode}")
            if time.monotonic() > give_up_s:
                raise Failure(f"cannot stop the pods: the agent does not answer after {START_S:.0f} s", FAILED)
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
