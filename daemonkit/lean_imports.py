"""Keeps what the agent does not use out of memory: importing this first spares about 3 MB.

Imported before everything else by agent/daemon.py. `lightkube/__init__.py` imports its whole HTTP client; we
only use the model classes below `lightkube.models`, so the package is entered here without running that file.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types


def _enter_without_init(name: str) -> None:
    if name in sys.modules:
        return
    spec = importlib.machinery.PathFinder.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        return
    package = types.ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = spec
    sys.modules[name] = package


_enter_without_init("lightkube")
