"""`longshore check`: is this machine fit to be a node? Each line is ok or says the fix.

Before: the modules `cli.preflight*` look. Effects: prints; exit status 1 where something is amiss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import click

from cli.backups.places import DEFAULT_CONFIG_DIR, pod_manifests, read_raw_config
from cli.failure import FAILED, Failure
from cli.output import format_option, print_table, print_value
from cli.preflight import Finding, Places, host_findings
from cli.target import DEFAULT_POD_LOGS_DIR, Target, pass_target
from control_plane.settings import DEFAULT_KUBERNETES_DIR

_DIRECTORY = click.Path(path_type=Path)


@click.command()
@click.option("--runtime-endpoint", help="Socket of the runtime.  [default: as the agent finds it]")
@click.option(
    "--config-dir",
    type=_DIRECTORY,
    default=DEFAULT_CONFIG_DIR,
    envvar="LONGSHORE_CONFIG_DIR",
    show_default=True,
    help="Directory of agent.yaml and proxy.yaml.",
)
@click.option("--cni-conf-dir", type=_DIRECTORY, default="/etc/cni/net.d", show_default=True)
@click.option(
    "--cni-bin-dir", type=_DIRECTORY, multiple=True, default=("/opt/cni/bin", "/usr/lib/cni"), show_default=True
)
@click.option(
    "--kubernetes-dir",
    type=_DIRECTORY,
    default=DEFAULT_KUBERNETES_DIR,
    envvar="LONGSHORE_KUBERNETES_DIR",
    show_default=True,
    help="Directory of a control plane's certificates.",
)
@format_option("table", "json", "yaml")
@pass_target
@click.pass_context
def check(
    context: click.Context,
    target: Target,
    runtime_endpoint: str | None,
    config_dir: Path,
    cni_conf_dir: Path,
    cni_bin_dir: tuple[Path, ...],
    kubernetes_dir: Path,
    output: str,
) -> None:
    """Check whether this machine is fit to be a node, and say how to repair what is not."""
    from cli.preflight_certificates import certificate_findings
    from cli.preflight_machine import Machine, machine_findings
    from cli.preflight_runtime import runtime_findings
    from cli.preflight_systemd import systemd_findings

    agent_file, proxy_file = config_dir / "agent.yaml", config_dir / "proxy.yaml"
    agent_config = _raw(agent_file)
    directories = (pod_manifests(target, agent_config or {}), target.services_dir())
    places = Places(cni_conf=cni_conf_dir, cni_bins=cni_bin_dir, manifest_dirs=directories, agent_config=agent_config)
    machine = Machine(
        agent_file=agent_file,
        proxy_file=proxy_file,
        agent_config=agent_config,
        proxy_config=_raw(proxy_file),
        disks=(target.root_dir, Path(DEFAULT_POD_LOGS_DIR), Path("/var/lib/containerd"), config_dir, Path("/run")),
    )
    answered = (target.agent_status().get("runtime") or {}).get("endpoint")
    endpoint = runtime_endpoint or answered or _text_of(agent_config, "containerRuntimeEndpoint")
    driver = None if agent_config is None else _text_of(agent_config, "cgroupDriver") or "cgroupfs"
    findings = [*host_findings(places), *machine_findings(machine)]
    if places.systemd.is_dir():
        findings += systemd_findings(agent_config or {})
    findings += runtime_findings(endpoint, driver)
    findings += certificate_findings(target, kubernetes_dir)
    if output == "table":
        print_table(("CHECK", "RESULT", "DETAILS"), [_row(one) for one in findings])
    else:
        print_value([dataclasses.asdict(one) for one in findings], output)
    if any(one.ok is False for one in findings):
        context.exit(FAILED)


def _raw(path: Path) -> Mapping[str, object] | None:
    """The fields of a configuration file; None where there is none that can be read, which is a finding of its own."""
    try:
        return read_raw_config(path) if path.exists() else None
    except Failure:
        return None


def _text_of(config: Mapping[str, object] | None, field: str) -> str | None:
    return str((config or {}).get(field) or "") or None


def _row(finding: Finding) -> tuple[str, str, str]:
    result = {True: "ok", False: "FAIL", None: "note"}[finding.ok]
    return finding.name, result, f"{finding.detail} -> {finding.fix}" if finding.fix else finding.detail
