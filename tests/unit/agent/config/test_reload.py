"""SIGHUP: what counts at once, what takes a restart, and what /configz then tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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


def _empty(document: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _empty(value, f"{outer}{name}.")
        elif not value:
            yield outer + name


def test_configz_has_no_empty_fields_but_those_that_the_kubelet_writes() -> None:
    """Read off kubelet.config.k8s.io/v1beta1 types.go (v0.36.3): pointers, and fields without omitempty."""
    none = set(_empty(config_document(load_config(["--hostname-override=a"]).given)))
    assert none == {
        "authentication.anonymous.enabled",
        "authentication.x509",
        "containerRuntimeEndpoint",
        "enableSystemLogQuery",
        "logging.verbosity",
        "mergeDefaultEvictionSettings",
        "seccompDefault",
    }


def test_configz_tells_a_zero_that_somebody_has_set() -> None:
    found = config_document(load_config(["--hostname-override=a", "--healthz-port=0", "--resolv-conf="]).given)
    assert (found["healthzPort"], found["resolvConf"]) == (0, "")
    assert found["shutdownGracePeriod"] == "0s"
