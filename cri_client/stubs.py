"""Loads gRPC and the CRI's protobuf stubs, in that order and with gRPC's own log lines off. Imported before either.

Before this comes nothing, after it `convert` (messages) and `channel` (calls), which take both from here. gRPC reads
its verbosity once, when it is loaded (and the stubs load it too); a lost connection is then reported by the error of
the call alone, not by lines on stderr beside it.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc.aio
from cri_api.v1 import api_pb2

__all__ = ["api_pb2", "grpc"]
