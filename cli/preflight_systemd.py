"""What systemd says of the node: units, shutdown delay, time synchronisation. I/O, changes nothing.

Before: `cli.check`, where systemd booted the machine. Next: it prints the findings. Sources: systemctl(1),
logind.conf(5), systemd.time(7), timedatectl(1), org.freedesktop.login1(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from cli.preflight import Finding, run_command
from daemonkit.duration import parse_duration

_TARGET = "longshore.target"
_UNITS = (_TARGET, "longshore-agent.service", "longshore-proxy.service", "longshore-shutdown.service")
_LOGIND_DEFAULT_S = 5.0
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_SECONDS = {
    "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3, "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
}  # fmt: skip


def systemd_findings(agent_config: Mapping[str, object]) -> Iterator[Finding]:
    """Everything that is asked of systemd."""
    _, out = run_command("systemctl", "show", "--property=Id,LoadState,UnitFileState,ActiveState", *_UNITS)
    yield from unit_findings(out)
    grace_s = grace_period_s(agent_config)
    if grace_s > 0:
        yield inhibit_finding(grace_s, _inhibit_delay_s())
    yield _synchronised()


def unit_findings(text: str) -> Iterator[Finding]:
    """What `systemctl show` of our units means. Pure."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    units = {block["Id"]: block for block in blocks if "Id" in block}
    target = units.get(_TARGET, {})
    if target.get("LoadState") != "loaded":
        yield Finding(
            "units", None, f"{_TARGET} is not there", "install the package; or start the daemons by other means"
        )
        return
    if target.get("UnitFileState") not in ("enabled", "enabled-runtime", "static"):
        yield Finding("units", False, f"{_TARGET} does not start at boot", f"systemctl enable --now {_TARGET}")
    for name, unit in units.items():
        state = unit.get("ActiveState", "unknown")
        if unit.get("LoadState") == "masked":
            yield Finding("units", False, f"{name} is masked", f"systemctl unmask {name}")
        elif unit.get("LoadState") == "loaded" and state not in ("active", "reloading"):
            fix = f"systemctl enable --now {_TARGET}; why it does not: journalctl -u {name}"
            yield Finding("units", False, f"{name} is {state}", fix)
        elif unit.get("LoadState") == "loaded":
            yield Finding("units", True, f"{name} is {state}")


def grace_period_s(config: Mapping[str, object]) -> float:
    """How long the agent wants to hold up a shutdown; 0 when it does not, or where the value is no duration. Pure."""
    classes = config.get("shutdownGracePeriodByPodPriority")
    if isinstance(classes, list) and classes:
        values = [one.get("shutdownGracePeriodSeconds", 0) for one in classes if isinstance(one, dict)]
        return float(sum(value for value in values if isinstance(value, int)))
    try:
        return parse_duration(str(config.get("shutdownGracePeriod") or "0s"))
    except ValueError:
        return 0.0


def inhibit_finding(grace_s: float, delay_s: float | None) -> Finding:
    """Does logind wait as long as the agent needs? Pure."""
    whole = int(grace_s) + (grace_s > int(grace_s))
    fix = (
        f"write [Login] and InhibitDelayMaxSec={whole} as two lines into /etc/systemd/logind.conf.d/99-longshore.conf, "
        "then: systemctl restart systemd-logind"
    )
    if delay_s is None:
        return Finding("shutdown", None, "logind does not say how long it waits (InhibitDelayMaxSec)", fix)
    detail = f"logind waits {delay_s:g} s, the agent's shutdownGracePeriod is {grace_s:g} s"
    return Finding("shutdown", True, detail) if delay_s >= grace_s else Finding("shutdown", False, detail, fix)


def _inhibit_delay_s() -> float | None:
    """InhibitDelayMaxSec of the logind that runs, else of its configuration."""
    place = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    code, out = run_command("busctl", "get-property", *place, "InhibitDelayMaxUSec")
    if code == 0 and re.fullmatch(r"t \d+", out):
        return int(out.split()[1]) / 1e6
    code, out = run_command("systemd-analyze", "cat-config", "systemd/logind.conf")
    return parse_inhibit_delay(out) if code == 0 else None


def parse_inhibit_delay(text: str) -> float | None:
    """InhibitDelayMaxSec in seconds of a logind.conf with its drop-ins; None: no time span. Pure."""
    found = re.findall(r"(?m)^[ \t]*InhibitDelayMaxSec[ \t]*=(.*)$", text)
    span = found[-1].strip() if found else ""
    if not span:
        return _LOGIND_DEFAULT_S
    if span == "infinity":
        return float("inf")
    parts = _SPAN.findall(span)
    if _SPAN.sub("", span).strip() or any(unit not in _SECONDS for _, unit in parts):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _synchronised() -> Finding:
    code, out = run_command("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if code == 0 and out == "yes":
        return Finding("time", True, "synchronised")
    fix = "timedatectl set-ntp true; where there is no time service: apt-get install systemd-timesyncd"
    return Finding("time", None, "not synchronised" if code == 0 else f"timedatectl: {out or code}", fix)
