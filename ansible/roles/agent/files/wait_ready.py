"""Wait until this node is ready and its pods are what they were; exit 0, or 1 with the reason on stdout.

Run by the role's tasks through `python3 - QUESTION`, on the node's own Python (standard library only), so that the
waiting costs one connection. QUESTION is a JSON object: `parts` of `longshore status` that must be ready (agent,
runtime, proxy), `pods` (what `record` printed, or nothing) and `deadline_s`; or `{"record": true}`, which prints the
pods that are Ready, with their containers, as JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

PAUSE_S = 1.0
STEADY_S = 3.0


def ask(what):
    """The answer of the local API, or None and why not."""
    try:
        done = subprocess.run(
            ["longshore", what, "-o", "json"], capture_output=True, text=True, check=False, timeout=30
        )
        return json.loads(done.stdout), ""
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"cannot run longshore {what}: {error}"
    except ValueError:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return None, f"longshore {what}: {lines[-1]}"


def boot():
    """Which boot this is: containers do not outlive it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def ready_pods(answer):
    """Pod -> its container ids, of those that are Ready."""
    found = {}
    for entry in answer["pods"]:
        pod, status = entry["pod"]["metadata"], entry["pod"].get("status") or {}
        if any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ()):
            ids = sorted(one.get("containerID") or "" for one in status.get("containerStatuses") or ())
            found[f"{pod['namespace']}/{pod['name']}"] = ids
    return found


def unready_parts(status, parts):
    """Why the node is not ready, part by part; empty where it is."""
    agent, proxy = status.get("agent") or {}, status.get("proxy") or {}
    runtime = agent.get("runtime") or {}
    ready = {
        "agent": bool(agent.get("ready")),
        "runtime": bool(runtime.get("connected", bool(runtime.get("name")))),
        "proxy": bool(proxy.get("ready")) and proxy.get("healthy", True),
    }
    problems = status.get("problems") or {}
    return [f"{part}: {problems.get(part) or 'not ready'}" for part in parts if not ready[part]]


def lost_pods(record):
    """Which of the recorded pods are not Ready now, or run in other containers; empty where all are well."""
    if not record or not record["pods"]:
        return []
    answer, problem = ask("pods")
    if answer is None:
        return [problem]
    now, same_boot = ready_pods(answer), record["boot"] == boot()
    lost = [f"pod {name} is not Ready" for name in record["pods"] if name not in now]
    changed = [name for name, ids in record["pods"].items() if name in now and same_boot and now[name] != ids]
    return lost + [f"pod {name} runs in other containers than before" for name in changed]


def look(question):
    """(What is amiss, the daemons' pids) now."""
    status, problem = ask("status")
    if status is None:
        return [problem], None
    pids = [(status.get(name) or {}).get("pid") for name in ("agent", "proxy")]
    return unready_parts(status, question["parts"]) or lost_pods(question.get("pods")), pids


def wait(question):
    """Look until all is well and stays so for a moment, or the deadline has passed."""
    deadline = time.monotonic() + float(question["deadline_s"])
    while True:
        amiss, pids = look(question)
        if not amiss:
            time.sleep(STEADY_S)
            amiss, again = look(question)
            if not amiss and pids == again:
                return []
            amiss = amiss or ["it starts again and again"]
        if time.monotonic() > deadline:
            return amiss
        time.sleep(PAUSE_S)


def main(question):
    """Exit status."""
    if question.get("record"):
        answer, problem = ask("pods")
        print(json.dumps({"boot": boot(), "pods": ready_pods(answer)}) if answer is not None else problem)
        return 0 if answer is not None else 1
    amiss = wait(question)
    print("; ".join(amiss) or "ready")
    return 1 if amiss else 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
