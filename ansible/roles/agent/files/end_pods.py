"""Remove the manifests of this node's pods and wait until the agent has ended them all, for `argv[1]` seconds at most.

Run by reset.yml through `python3 - SECONDS`, on the node's own Python (standard library only). Exit 0 in any case: what
is left is named on stdout, and ended by force afterwards.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

MANIFESTS = Path("/etc/longshore/manifests")
PAUSE_S = 0.5


def pods():
    """Names of the pods the agent knows, None where it does not answer."""
    try:
        command = ["longshore", "pods", "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        return [entry["pod"]["metadata"]["name"] for entry in json.loads(done.stdout)["pods"]]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return None


def main(seconds):
    """Remove, then wait."""
    before = pods()
    for path in [one for one in MANIFESTS.glob("*") if one.suffix in (".yaml", ".yml", ".json")]:
        path.unlink()
    deadline = time.monotonic() + seconds
    left = before
    while left and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        left = pods()
    if before is None or left is None:
        print("the agent does not answer; what runs is ended by force")
    elif left:
        print(f"ended, but for {', '.join(left)}, which took longer than {seconds:.0f} s and is ended by force")
    elif before:
        print(f"ended {', '.join(before)}")


if __name__ == "__main__":
    main(float(sys.argv[1]))
