"""The two sides of a scenario: a source that has the files, a target that takes them, each a process on the servers' core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.certificates import Certificates
from benchmarks.processes import Helper

MIB = 1 << 20
SOURCE_PART_BYTES = 64 * MIB


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the sides behave.

    Attributes:
        files: keys and sizes that the source has.
        certificates: speak TLS with these; None is plain HTTP.
        tells_parts: the source answers ``?partNumber=``, so that polyb2 can have the proof ``etag``, else ``parts``.
        part_bytes: parts that the source's ETags were made of.
        limits: settings of ``benchmarks/server/throttle.py``, for both sides.
        primed: the target hashes the source's parts before it begins, where no warm-up does that.
        line: settings of ``benchmarks/line.py`` for an emulated line in between; None is loopback as it is.
    """

    files: Sequence[tuple[str, int]]
    certificates: Certificates | None = None
    tells_parts: bool = True
    part_bytes: int = SOURCE_PART_BYTES
    limits: dict[str, float] = field(default_factory=dict)
    line: dict[str, float] | None = None
    primed: bool = False

    @property
    def total_bytes(self) -> int:
        return sum(size for _, size in self.files)


class Pair:
    """Both sides under way."""

    def __init__(self, conditions: Conditions, source: Helper, target: Helper, ports: tuple[int, int]) -> None:
        self.conditions = conditions
        self.source = source
        self.target = target
        scheme = "https" if conditions.certificates else "http"
        self.source_url, self.target_url = (f"{scheme}://127.0.0.1:{port}" for port in ports)

    def clear(self) -> None:
        """Empty the target, forget what was counted."""
        self.source.ask("forget")
        self.target.ask("clear")

    def reports(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What each side saw."""
        return self.source.ask("report"), self.target.ask("report")

    @property
    def server_cpu_s(self) -> float:
        return self.source.cpu_s + self.target.cpu_s


@contextmanager
def open_pair(conditions: Conditions) -> Iterator[Pair]:
    """Start both sides, and the line between them and the client; stop them at the end."""
    common: dict[str, Any] = {"files": list(conditions.files), **conditions.limits}
    if conditions.certificates:
        common |= {"certificate": str(conditions.certificates.certificate), "key": str(conditions.certificates.key)}
    filled = {"part_bytes": conditions.part_bytes, "tells_parts": conditions.tells_parts}
    with ExitStack() as stack:
        source = stack.enter_context(Helper("benchmarks.server", common | filled))
        primed = {"primed_part_bytes": conditions.part_bytes if conditions.primed else 0}
        target = stack.enter_context(Helper("benchmarks.server", common | primed))
        ports = source.hello["port"], target.hello["port"]
        if conditions.line is not None:
            line = stack.enter_context(Helper("benchmarks.line", {"ports": list(ports), **conditions.line}))
            ports = tuple(line.hello["ports"])
        yield Pair(conditions, source, target, ports)
