"""longshore-proxy as a process: what the flags ask for is done once or for ever, by one process at a time.

Before: systemd or a person with flags.  Next: `proxy.assembly` runs the proxy, `proxy.once` does the rest.
Exit status: 0 stopped, 1 cannot run, 78 the configuration is wrong (EX_CONFIG of sysexits.h).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

from daemonkit.files import LockFile, LockHeldError
from daemonkit.journal import setup_logging
from daemonkit.memory import collect_seldom
from daemonkit.unix_http import SocketInUseError
from kube_client.config import ApiConfig
from proxy.api_access import check_directories, find_api, reads_directory
from proxy.assembly import ProxyDaemon
from proxy.backend import BackendError
from proxy.config import ConfigError, ProxyConfig, load_config
from proxy.modes import usable_families
from proxy.once import clean_up, initialize, write_configuration
from proxy.only_one import AlreadyRunningError, only_one
from proxy.server import CannotListenError

_log = logging.getLogger(__name__)
_EX_CONFIG = 78


def main() -> None:
    """Entry point of longshore-proxy."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run until told to stop; the exit status."""
    try:
        config = load_config(argv)
        if config.write_config_to is not None:
            write_configuration(config, config.write_config_to)
            return 0
        api = find_api(config, os.environ) if _runs(config) else None
        if _runs(config) and reads_directory(config, api):
            check_directories(config)
    except ConfigError as error:
        print(f"longshore-proxy: {error}", file=sys.stderr)
        return _EX_CONFIG
    setup_logging(config.verbosity, as_json=config.log_as_json)
    if os.geteuid() != 0:  # before the lock, whose directory would be the first thing to be refused
        _log.critical("cannot program service rules: not root; run longshore-proxy as root")
        return 1
    for warning in (*config.warnings, *(api.warnings if api is not None else ())):
        _log.warning("%s", warning)
    collect_seldom()
    try:
        with _only_one(config):
            asyncio.run(_serve(argv, config, api) if _runs(config) else _once(config))
    except (AlreadyRunningError, BackendError, CannotListenError, LockHeldError, SocketInUseError) as error:
        _log.critical("%s", error)
        return 1
    except OSError as error:
        _log.critical("cannot run: %s", error)
        return 1
    return 0


@contextlib.contextmanager
def _only_one(config: ProxyConfig) -> Iterator[None]:
    """The directory of the API socket and the rules of the network namespace are ours alone."""
    config.api_socket.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    with LockFile(config.api_socket.with_suffix(".lock")), only_one():
        yield


async def _serve(argv: Sequence[str], config: ProxyConfig, api: ApiConfig | None) -> None:
    families, problem = await usable_families(config.mode)
    if problem:
        _log.warning("%s", problem)
    await ProxyDaemon(argv, config, families, problem, api).run()


def _runs(config: ProxyConfig) -> bool:
    return not (config.cleanup or config.init_only)


async def _once(config: ProxyConfig) -> None:
    await (clean_up(config) if config.cleanup else initialize(config))


if __name__ == "__main__":
    main()
