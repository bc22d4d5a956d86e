"""Where this process is and where its time goes, in the format of pprof.  I/O: samples its own threads.

Before: `debug` is asked.  Next: `go tool pprof`, or a person.  Of a thread counts the processor's time that it took
since the sample before, so that one that waits takes none.  Source: github.com/google/pprof proto/profile.proto.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

HZ = 100
_MAX_DEPTH = 128
_NS = 1_000_000_000
Place = tuple[str, str, int]
"""Function, file and line."""
Stack = tuple[Place, ...]
"""From the innermost place outwards."""

# The numbers of profile.proto: message -> field -> (number, kind); one that begins with * is repeated.
_FORMAT: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "ValueType": {"type": (1, "int64"), "unit": (2, "int64")},
    "Sample": {"location_id": (1, "*uint64"), "value": (2, "*int64")},
    "Line": {"function_id": (1, "uint64"), "line": (2, "int64")},
    "Location": {"id": (1, "uint64"), "line": (4, "*Line")},
    "Function": {"id": (1, "uint64"), "name": (2, "int64"), "system_name": (3, "int64"), "filename": (4, "int64")},
    "Profile": {
        "sample_type": (1, "*ValueType"),
        "sample": (2, "*Sample"),
        "location": (4, "*Location"),
        "function": (5, "*Function"),
        "string_table": (6, "*string"),
        "time_nanos": (9, "int64"),
        "duration_nanos": (10, "int64"),
        "period_type": (11, "ValueType"),
        "period": (12, "int64"),
    },
}


def stacks() -> list[tuple[str, Stack]]:
    """Each task of this thread's loop and each thread, by name, and where it is."""
    found = [(f"task {one.get_name()}", _suspended(one)) for one in asyncio.all_tasks()]
    frames = sys._current_frames()  # noqa: SLF001 - documented in spite of its name
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is not None:
            found.append((f"thread {thread.name}", tuple(_places(frame))))
    frames.clear()  # our own frame is among them
    return found


def stacks_text(found: Iterable[tuple[str, Stack]]) -> str:
    """For people."""
    parts = []
    for name, stack in found:
        parts.append(name)
        parts += [f"    {function} ({file}:{line})" for function, file, line in stack]
        parts.append("")
    return "\n".join(parts) + "\n"


def encode_stacks(found: Iterable[tuple[str, Stack]]) -> bytes:
    """A gzipped profile, of how many are where."""
    counts = Counter((*stack, (name, "", 0)) for name, stack in found)
    return _encode({stack: (number,) for stack, number in counts.items()}, ("goroutine/count",), 0.0, 1)


def cpu_profile(seconds: float, stop: threading.Event) -> bytes:
    """A gzipped profile of this process's threads; earlier when it is told to stop."""
    counts: Counter[Stack] = Counter()
    spent_ns: Counter[Stack] = Counter()
    began_s = time.monotonic()
    before = dict(_spent())
    while time.monotonic() - began_s < seconds and not stop.wait(1 / HZ):
        now, frames = dict(_spent()), sys._current_frames()  # noqa: SLF001 - documented in spite of its name
        for ident, ns in now.items():
            used_ns = ns - before.get(ident, ns)
            if used_ns > 0 and ident in frames and ident != threading.get_ident():
                stack = tuple(_places(frames[ident]))
                counts[stack] += 1
                spent_ns[stack] += used_ns
        frames.clear()  # our own is among them, and would keep all the others
        before = now
    values = {stack: (counts[stack], spent_ns[stack]) for stack in counts}
    return _encode(values, ("samples/count", "cpu/nanoseconds"), time.monotonic() - began_s, _NS // HZ)


def _spent() -> Iterator[tuple[int, int]]:
    """Nanoseconds that each thread has run, by its ident; a thread that ends meanwhile is left out."""
    for thread in threading.enumerate():
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
            yield thread.ident or 0, int(text.split()[0])


def _places(frame: FrameType | None) -> Iterator[Place]:
    for _ in range(_MAX_DEPTH):
        if frame is None:
            return
        code = frame.f_code
        yield code.co_qualname, code.co_filename, frame.f_lineno or code.co_firstlineno
        frame = frame.f_back


def _suspended(task: asyncio.Task[Any]) -> Stack:
    """Through what a task waits: get_stack() of a task knows the outermost place only."""
    found: list[Place] = []
    waits: Any = task.get_coro()
    while waits is not None and len(found) < _MAX_DEPTH:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
        if frame is None:
            break
        found.append(next(_places(frame)))
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    return tuple(reversed(found))


def _encode(values: Mapping[Stack, tuple[int, ...]], kinds: tuple[str, ...], duration_s: float, period: int) -> bytes:
    profile = _profile_class()()
    table: dict[str, int] = {"": 0}
    functions: dict[tuple[str, str], int] = {}
    locations: dict[Place, int] = {}

    def text(word: str) -> int:
        return table.setdefault(word, len(table))

    for kind in kinds:
        name, unit = kind.split("/")
        profile.sample_type.add(type=text(name), unit=text(unit))
    profile.period_type.type, profile.period_type.unit = profile.sample_type[-1].type, profile.sample_type[-1].unit
    for stack, numbers in values.items():
        for place in stack:
            function, file, line = place
            if (function, file) not in functions:
                functions[function, file] = len(functions) + 1
                word = text(function)
                profile.function.add(id=len(functions), name=word, system_name=word, filename=text(file))
            if place not in locations:
                locations[place] = len(locations) + 1
                profile.location.add(id=len(locations)).line.add(function_id=functions[function, file], line=line)
        profile.sample.add(location_id=[locations[place] for place in stack], value=numbers)
    profile.string_table.extend(table)
    profile.time_nanos, profile.duration_nanos, profile.period = time.time_ns(), int(duration_s * _NS), period
    return gzip.compress(profile.SerializeToString())


def _profile_class() -> Any:
    """Made when it is asked for: nobody else pays for it."""
    file = FileDescriptorProto(name="profile.proto", package="perftools.profiles", syntax="proto3")
    kinds = {"int64": FieldDescriptorProto.TYPE_INT64, "uint64": FieldDescriptorProto.TYPE_UINT64}
    for message, fields in _FORMAT.items():
        added = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            field = added.field.add(name=name, number=number)
            field.label = FieldDescriptorProto.LABEL_REPEATED if kind[0] == "*" else FieldDescriptorProto.LABEL_OPTIONAL
            one = kind.removeprefix("*")
            if one in _FORMAT:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".perftools.profiles.{one}"
            else:
                field.type = kinds.get(one, FieldDescriptorProto.TYPE_STRING)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("perftools.profiles.Profile"))
