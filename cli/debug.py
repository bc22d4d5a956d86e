"""`longshore debug`: put a container into a pod that runs, to look around in it.

Before: the agent's API names the pod. Next: POST to it; the agent pulls the image and starts the container once. What
it writes is read with `longshore logs`. Effects: prints how.
"""

from __future__ import annotations

import secrets

import click

from cli.failure import FAILED, Failure
from cli.pods import complete_pods, find_pods
from cli.target import Json, Target, pass_target, post_json

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


@click.command()
@click.argument("pod", shell_complete=lambda *given: complete_pods(*given))
@click.argument("command", nargs=-1)
@click.option("--image", required=True, help="The image to run.")
@click.option("--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), help="When to pull it.")
@click.option("--target", "target_container", help="The container whose processes it sees.")
@click.option("-c", "--container", help="What the new container is called.  [default: debugger-RANDOM]")
@click.option("-n", "--namespace", help="Namespace of the pod.")
@pass_target
def debug(
    target: Target,
    pod: str,
    command: tuple[str, ...],
    image: str,
    image_pull_policy: str | None,
    target_container: str | None,
    container: str | None,
    namespace: str | None,
) -> None:
    """Run COMMAND (after --) in a new container of POD, once; it goes with the pod."""
    status, answer = target.agent("/v1/status"), target.agent("/v1/pods")
    entries = [one for one in answer["pods"] if namespace in (None, one["pod"]["metadata"].get("namespace"))]
    found = find_pods(entries, pod, str(status.get("nodeName", "")))
    if len(found) > 1:
        raise click.UsageError(f"several pods are called {pod!r}; say which with -n NAMESPACE")
    metadata: Json = found[0]["pod"]["metadata"]
    name = container or f"debugger-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"
    asked: Json = {"name": name, "image": image, "command": list(command) or None}
    asked |= {"imagePullPolicy": image_pull_policy, "targetContainerName": target_container}
    url = f"/v1/pods/{metadata['namespace']}/{metadata['name']}/ephemeralcontainers"
    made = post_json(target.agent_socket, url, {key: value for key, value in asked.items() if value is not None})
    if made.get("name") != name:
        raise Failure(f"cannot debug pod {metadata['name']}: the agent answers {made}", FAILED)
    click.echo(f"container {name} of pod {metadata['name']} starts; what it writes:", err=True)
    click.echo(f"longshore logs {metadata['name']} -n {metadata['namespace']} -c {name} -f")
