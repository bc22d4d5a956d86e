"""The error that all of agent/volumes raises. Pure."""

from __future__ import annotations


class VolumeError(Exception):
    """A volume or the directory of a pod is not as the pod needs it.

    `reason` is the kubelet's event reason (`FailedMount`, `FailedCleanup`); `message` is for people and is also the
    text of the exception.  Worth trying again later.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def setup_failed(volume: str, cause: str) -> VolumeError:
    """In the kubelet's words."""
    return VolumeError("FailedMount", f'MountVolume.SetUp failed for volume "{volume}" : {cause}')
