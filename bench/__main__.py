"""`make bench`: Longshore beside the raw cost of the runtime and the kernel, side by side in one run.

`python -m bench [agent|proxy]`: both by default.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys

from bench import agent
from bench.table import markdown


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["agent", "proxy"], help="default: both")
    what = parser.parse_args().what
    wanted = [what] if what else ["agent", "proxy"]
    print(f"{os.cpu_count()} cores, kernel {platform.release()}, Python {platform.python_version()}\n")
    if "agent" in wanted:
        with agent.lab_node() as node:
            print(markdown("agent: starting pods", agent.start_rows(node)), flush=True)
            print(markdown("agent: restarting a container", agent.restart_rows(node)), flush=True)
            print(markdown("at rest", agent.rest_rows(node)), flush=True)
    if "proxy" in wanted:
        # Processes of their own, because they go into another network namespace.
        for mode in ("iptables", "nftables"):
            subprocess.run([sys.executable, "-m", f"bench.proxy_{mode}", "1000"], check=True)


if __name__ == "__main__":
    main()
