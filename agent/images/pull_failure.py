"""What a pull that failed is called in the container's status. Pure.

Before: puller.py has the runtime's answer.  Next: the waiting state of the container.  Two errors have a name of their
own, which the runtime writes before its message; the others are told as the kubelet's gRPC does.  Source: the CRI's
list of errors of images.
"""

from __future__ import annotations

from cri_client.errors import Code, CriError

_NAMED = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}


def pull_failure(image: str, error: CriError) -> tuple[str, str]:
    """Reason and message for the image, whose name is as the pod has it."""
    for reason, cause in _NAMED.items():
        if error.code is Code.UNKNOWN and error.message.startswith(reason):
            return reason, f"image pull failed for {image} because {cause}{error.message.removeprefix(reason)}"
    if error.code is Code.UNKNOWN:
        return "ErrImagePull", error.message
    word = "".join(part.capitalize() for part in error.code.name.split("_"))
    return "ErrImagePull", f"rpc error: code = {word} desc = {error.message}"
