"""Which feature gates of the kubelet may differ from their default here.

Pure.  Before: config.py has read `featureGates`.  Next: what is on besides the defaults changes what the agent does.  A
gate that would ask for something the agent does not do is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from kube_objects.feature_gates import DEFAULTS, why_refused, word

MEMORY_QOS = "MemoryQoS"
TRUST_BUNDLES = "ClusterTrustBundleProjection"
CHECKPOINT, FLAGZ, STATUSZ = "ContainerCheckpoint", "ComponentFlagz", "ComponentStatusz"
SUPPORTED = frozenset({MEMORY_QOS, TRUST_BUNDLES, CHECKPOINT, FLAGZ, STATUSZ})
"""What may differ from its default."""


def resolve_gates(wanted: Mapping[str, bool]) -> frozenset[str]:
    """The gates of SUPPORTED that are on.  Raises ValueError for the first gate that cannot be set so."""
    for name, value in wanted.items():
        if why := why_refused(name, value):
            raise ValueError(why)
        if value is not DEFAULTS[name] and name not in SUPPORTED:
            raise ValueError(f"feature gate {name} cannot be {word(value)} here: not supported yet")
    return frozenset(name for name in SUPPORTED if wanted.get(name, DEFAULTS[name]))
