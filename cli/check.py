"""`longshore check`: is this machine fit to be a node? Each line is ok or says the fix.

Before: `cli.preflight` and `cli.preflight_runtime` look. Effects: prints; exit status 1 where something is amiss.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from cli.failure import FAILED
from cli.output import format_option, print_table, print_value
from cli.preflight import Finding, Places, host_findings
from cli.target import Target, pass_target

_DIRECTORY = click.Path(path_type=Path)


@click.command()
@click.option("--runtime-endpoint", help="Socket of the runtime.  [default: as the agent finds it]")
@click.option("--cni-conf-dir", type=_DIRECTORY, default="/etc/cni/net.d", show_default=True)
@click.option(
    "--cni-bin-dir", type=_DIRECTORY, multiple=True, default=("/opt/cni/bin", "/usr/lib/cni"), show_default=True
)
@format_option("table", "json", "yaml")
@pass_target
@click.pass_context
def check(
    context: click.Context,
    target: Target,
    runtime_endpoint: str | None,
    cni_conf_dir: Path,
    cni_bin_dir: tuple[Path, ...],
    output: str,
) -> None:
    """Check whether this machine is fit to be a node, and say how to repair what is not."""
    from cli.preflight_runtime import runtime_findings

    directories = (target.pods_dir(), target.services_dir())
    places = Places(cni_conf=cni_conf_dir, cni_bins=cni_bin_dir, manifest_dirs=directories)
    endpoint = runtime_endpoint or (target.agent_status().get("runtime") or {}).get("endpoint")
    findings = [*host_findings(places), *runtime_findings(endpoint)]
    if output == "table":
        print_table(("CHECK", "RESULT", "DETAILS"), [_row(one) for one in findings])
    else:
        print_value([dataclasses.asdict(one) for one in findings], output)
    if any(one.ok is False for one in findings):
        context.exit(FAILED)


def _row(finding: Finding) -> tuple[str, str, str]:
    result = {True: "ok", False: "FAIL", None: "note"}[finding.ok]
    return finding.name, result, f"{finding.detail} -> {finding.fix}" if finding.fix else finding.detail
