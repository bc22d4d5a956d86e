"""What is counted of pulls: how long they took, by the size of what came.  Pure.

Before: `puller` has an image on the node.  Next: the node's API tells it under the kubelet's names.  Every label has
few values.  Source: kubelet metrics (imagePullDurationBuckets, GetImageSizeBucket) and image_manager.
"""

from __future__ import annotations

from daemonkit.tally import Tallies

PULL_BOUNDS_S = (
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0,
    3600.0,
)  # fmt: skip
UNKNOWN = "N/A"
_MIB = 1 << 20
_GIB = 1 << 30
_RANGES = (
    (100 * _GIB, "GT100GB"),
    (60 * _GIB, "60GB-100GB"),
    (40 * _GIB, "40GB-60GB"),
    (30 * _GIB, "30GB-40GB"),
    (20 * _GIB, "20GB-30GB"),
    (10 * _GIB, "10GB-20GB"),
    (5 * _GIB, "5GB-10GB"),
    (_GIB, "1GB-5GB"),
    (500 * _MIB, "500MB-1GB"),
    (100 * _MIB, "100MB-500MB"),
    (10 * _MIB, "10MB-100MB"),
    (0, "0-10MB"),
)


class ImageCounts:
    """`pulls` in seconds, by `size_range`; one for each that was told that its image has been pulled."""

    def __init__(self) -> None:
        self.pulls = Tallies(PULL_BOUNDS_S)


def size_range(size_bytes: int) -> str:
    """The kubelet's label for images of that size; 0 for one of unknown size."""
    return next((name for above, name in _RANGES if size_bytes > above), UNKNOWN)
