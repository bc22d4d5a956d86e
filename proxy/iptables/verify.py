"""A second reader for iptables-legacy: python-iptables reads the kernel's tables through libiptc and compares.

Before: `proxy.iptables.backend` wrote all rules and wants them confirmed by other eyes than iptables-save's.  Next:
a line per difference.  `python -m proxy.iptables.verify` reads a JSON Ruleset on standard input; it is a process of
its own, because the library takes 25 MB and, with thousands of rules, seconds.  (It cannot see rules of
iptables-nft.)
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.iptables.model import Rule, Ruleset
from proxy.programs import memory_file

_log = logging.getLogger(__name__)
_PAUSE_S = 60.0
_PAUSE_FACTOR = 30.0
_MAX_LINES = 20
_SHORT = {"-s": "src", "-d": "dst", "-p": "protocol", "-i": "in-interface", "-o": "out-interface"}

# What python-iptables answers for one rule: option names to values, match names to their options, "target".
Decoded = Mapping[str, Any]


class Inspection:
    """Runs the second reader beside everything else: after rules were written, but not again and again."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._inspected: Ruleset | None = None
        self._running: Reading | None = None
        self._started_s = 0.0
        self._not_before_s = 0.0
        self._told: list[str] = []

    def step(self, kernel: Ruleset) -> list[str]:
        """Called twice a second with what the kernel should hold; never waits.  Returns what is new."""
        now_s = time.monotonic()
        if self._running is not None:
            found = self._running.result()
            if found is None:
                return []
            self._running = None
            self._inspected = kernel
            self._not_before_s = now_s + _PAUSE_S + _PAUSE_FACTOR * (now_s - self._started_s)
            new = [line for line in found if line not in self._told]
            self._told = found
            return new
        if self._inspected is not kernel and now_s >= self._not_before_s:
            self._started_s, self._not_before_s = now_s, now_s + _PAUSE_S
            self._running = Reading(kernel, self._family)
        return []

    def cancel(self) -> None:
        """What is being read is about to change."""
        if self._running is not None:
            self._running.close()
            self._running = None


class Reading:
    """One process of the second reader."""

    def __init__(self, wanted: Ruleset, family: int) -> None:
        self._out = os.memfd_create("longshore-verify-out", os.MFD_CLOEXEC)
        source = memory_file("longshore-verify-in", encode(wanted, family))
        command = ("nice", "-n", "19", sys.executable, "-m", "proxy.iptables.verify")
        try:
            self._process = subprocess.Popen(command, stdin=source, stdout=self._out, stderr=subprocess.STDOUT)
        finally:
            os.close(source)

    def result(self) -> list[str] | None:
        """Differences, each as one line; None while it runs.  Tables that cannot be read are logged, not different."""
        code = self._process.poll()
        if code is None:
            return None
        out = os.pread(self._out, os.lseek(self._out, 0, os.SEEK_END), 0).decode(errors="replace").splitlines()
        self.close()
        if code:
            _log.warning("cannot read the tables with python-iptables: %s", out[-1] if out else f"exit status {code}")
            return []
        return out

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._out >= 0:
            os.close(self._out)
            self._out = -1


def encode(ruleset: Ruleset, family: int) -> bytes:
    """The input of the process: family, tables {table: {chain: [rule]}}, jumps [[table, hook, rule]]; JSON."""
    return json.dumps(
        {
            "family": family,
            "tables": {t.name: {c.name: list(c.rules) for c in t.chains.values()} for t in ruleset.tables},
            "any_order": [chain.name for table in ruleset.tables for chain in table.chains.values() if chain.any_order],
            "jumps": [[t.name, jump.hook, jump.rule] for t in ruleset.tables for jump in t.jumps],
        }
    ).encode()


def decode_rule(rule: Rule) -> dict[str, Any]:
    """A rule's text in the form in which python-iptables describes rules.  Pure."""
    words = shlex.split(rule)
    decoded: dict[str, Any] = {}
    options: dict[str, Any] | None = None
    negated = False
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "!":
            negated = True
        elif word in _SHORT:
            decoded[_SHORT[word]] = "!" * negated + words[at]
            at, negated = at + 1, False
        elif word == "-m":
            options = decoded.setdefault(words[at], {})
            at += 1
        elif word == "-j":
            options = {}
            decoded["target"] = {words[at]: options}
            at += 1
        elif word.startswith("--") and options is not None:
            values = []
            while at < len(words) and not words[at].startswith("-") and words[at] != "!":
                values.append(words[at])
                at += 1
            value: Any = " ".join(values)
            options[word[2:]] = ["!", value] if negated else value
            negated = False
    target = decoded.get("target")
    if isinstance(target, dict):
        ((name, settings),) = target.items()
        decoded["target"] = {name: settings} if settings else name
    return decoded


def differences(wanted: Mapping[str, Any], kernel: Mapping[str, Mapping[str, list[Decoded]]]) -> Iterator[str]:
    """Compare decoded tables ({table: {chain: [rule]}}) with the JSON value of `encode`.  Pure."""
    for table, chains in wanted["tables"].items():
        for chain, rules in chains.items():
            found = kernel.get(table, {}).get(chain)
            if found is None:
                yield f"{table}: chain {chain} is missing"
            elif len(found) != len(rules):
                yield f"{table}: chain {chain} has {len(found)} rules instead of {len(rules)}"
            else:
                yield from _rule_differences(f"{table}: rule", chain, rules, found, chain in wanted["any_order"])
    for table, hook, rule in wanted["jumps"]:
        if decode_rule(rule) not in kernel.get(table, {}).get(hook, []):
            yield f"{table}: the jump `{rule}` is missing in {hook}"


def _rule_differences(what: str, chain: str, rules: list[Rule], found: list[Decoded], any_order: bool) -> Iterator[str]:
    decoded = [(decode_rule(rule), rule) for rule in rules]
    if any_order:
        there = {json.dumps(rule, sort_keys=True) for rule in found}
        for rule, text in decoded:
            if json.dumps(rule, sort_keys=True) not in there:
                yield f"{what} `{text}` of {chain} is missing"
        return
    for number, ((rule, text), kernel) in enumerate(zip(decoded, found, strict=True), 1):
        if rule != kernel:
            yield f"{what} {number} of {chain} is not `{text}` but {json.dumps(kernel)}"


def _read_kernel(family: int, wanted: Mapping[str, Any]) -> dict[str, dict[str, list[Decoded]]]:
    import iptc

    kind = iptc.Table if family == 4 else iptc.Table6
    hooks = {hook for _, hook, _ in wanted["jumps"]}
    kernel: dict[str, dict[str, list[Decoded]]] = {}
    for name, chains in wanted["tables"].items():
        table = kind(name, autocommit=False)
        kernel[name] = {
            chain.name: [_without_counters(iptc.easy.decode_iptc_rule(rule, ipv6=family == 6)) for rule in chain.rules]
            for chain in table.chains
            if chain.name in chains or chain.name in hooks
        }
    return kernel


def _without_counters(rule: dict[str, Any]) -> Decoded:
    return {key: value for key, value in rule.items() if key != "counters"}


def main() -> None:
    """Entry of the process."""
    wanted = json.load(sys.stdin)
    for line in itertools.islice(differences(wanted, _read_kernel(wanted["family"], wanted)), _MAX_LINES):
        print(line)


if __name__ == "__main__":
    main()
