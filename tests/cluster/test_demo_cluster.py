"""`make demo-cluster` on a test host: `longshore up`, what people run in clusters, `longshore down`, nothing left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lab.host import LabHost
from lab.metrics_server import is_built
from tests.conftest import need_control_plane

pytestmark = pytest.mark.timeout(900)
# Only where `kubectl top` has shown what the pod `busy` may use and holds does the demo go on.
_TOP = ("approved", "v1beta1.metrics.k8s.io", "busy may use 100m of a core", "CPU(cores)")


def test_the_demo_shows_everything_and_leaves_nothing(demo_host: LabHost) -> None:
    need_control_plane()
    done = demo_host.run([sys.executable, "-m", "lab.demo", "--cluster"], check=False, timeout_s=850)
    assert done.returncode == 0, done.stdout + done.stderr
    for scene in (
        "node demo is ready",
        "control-plane",
        "kube-apiserver-demo",
        "200 requests to the Service",
        "a third run changes nothing",
        "job.batch/sum-now",
        "statefulset.apps/db",
        "hello from kubectl exec",
        "answers: web-",
        *(_TOP if is_built() else ("pod_memory_working_set_bytes",)),
        "the Deployment runs again after",
        "pods gone",
        "everything taken away",
        "nothing left",
    ):
        assert scene in done.stdout
    assert not Path(os.environ["LONGSHORE_DEMO_BASE"]).exists()
