"""What goes wrong with the files of a control plane. Pure.

Raised by every module here that touches files; the commands show the text.
"""

from __future__ import annotations


class ControlPlaneError(Exception):
    """The text reads `cannot <verb> <object>: <cause>; <what to do>`."""
