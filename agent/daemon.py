"""`longshore-agent` as a process: flags, the lock of the state directory, exit statuses.

Before: systemd, or a person. Next: `running` is the agent itself.  Exit status: 0 stopped, 1 cannot run, 78 the
configuration cannot be used (EX_CONFIG of sysexits.h).
"""

from __future__ import annotations

import daemonkit.lean_imports  # noqa: F401 - first, or it has no effect

# isort: split
import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.config import AgentConfig, ConfigError, load_config
from agent.node.fitness import UnfitHostError, check_host
from agent.running import Agent
from agent.state_dir import StateDir, StateDirError
from daemonkit.files import LockHeldError
from daemonkit.journal import setup_logging
from daemonkit.memory import limit_arenas

if TYPE_CHECKING:
    from agent.cluster.access import Access

EXIT_CONFIG = 78  # sysexits(3) EX_CONFIG; the unit's RestartPreventExitStatus


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `longshore-agent`."""
    limit_arenas()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        config = load_config(arguments)
        access = _read_access(config)
    except ConfigError as error:
        print(f"longshore-agent: {error}", file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    setup_logging(config.verbosity)
    if os.geteuid() != 0:
        print("longshore-agent: cannot run pods: must be root (sudo, or the systemd unit)", file=sys.stderr)
        sys.exit(1)
    state = StateDir(config.root_dir)
    try:
        state.open()
        state.write_arguments(arguments)
        check_host(config)
    except (StateDirError, LockHeldError, UnfitHostError) as error:
        print(f"longshore-agent: {error}", file=sys.stderr)
        sys.exit(1)
    try:
        failure = asyncio.run(Agent(config, arguments, state, access).run())
    finally:
        state.close()
    if failure:
        print(f"longshore-agent: {failure}", file=sys.stderr)
        sys.exit(1)


def _read_access(config: AgentConfig) -> Access | None:
    """None for a node that stands alone, which then imports nothing of agent.cluster. Raises ConfigError."""
    if config.cluster.kubeconfig is None:
        return None
    from agent.cluster.access import read_access

    return read_access(config.cluster)


if __name__ == "__main__":
    main()
