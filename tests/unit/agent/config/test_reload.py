"""SIGHUP: what counts at once, what takes a restart, and what /configz then tells."""

from __future__ import annotations

from agent.config import load_config
from agent.config_document import config_document
from agent.reload import apply_config, needs_restart


def test_what_counts_at_once_is_told_and_what_takes_a_restart_is_not() -> None:
    running = load_config(["--max-pods=10", "--hostname-override=a"])
    live = load_config(["--max-pods=11", "--hostname-override=a"])
    assert needs_restart(running, live) == ()
    assert config_document(apply_config(running, live).given)["maxPods"] == 11
    both = load_config(["--max-pods=11", "--hostname-override=a", "--pod-max-pids=5"])
    assert needs_restart(running, both) == ("pod_pids_limit",)
    merged = apply_config(running, both)
    assert merged.max_pods == 11
    assert config_document(merged.given)["podPidsLimit"] == -1
