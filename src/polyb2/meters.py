"""The counters of the engine: bytes, times, errors, as plain numbers that ``/metrics`` and the page translate.

Invariants: counters only grow; counting costs a few additions a part, a request and a file, never any a chunk;
readers are never waited for. Seconds and bytes.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from polyb2.core.errors import Kind, RemoteError, Side

T = TypeVar("T")
ANSWER_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PART_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)
FILE_BOUNDS_S = (0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0)
LOST = "lost"


class Counted(Protocol):
    """A body in transfer; ``seen`` are the bytes that came in so far."""

    seen: int


class Histogram:
    """Observations by upper bound; the last count is of those above all bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Meters:
    """The counters of one process.

    Attributes:
        read_bytes: bytes that came in from the source, by dataset; those of tries that failed are among them.
        stored_bytes: bytes made durable in the target, by dataset.
        part_seconds: from the source's answer to the target's, of parts and of small files, by dataset.
        file_seconds: from a claim to its completion, by dataset.
        answer_seconds: until an answer began, by side and operation.
        attempts: claims that ended, by dataset and outcome.
        errors: tries of requests that failed, by side and kind.
        retries: tries made after such a failure, by side.
        leases_lost: leases that ran out under their worker.
        wait_logged_until_s: by side the end of a wait that was logged, by the loop's clock: no figure, but the same for all
            requests of a process, so that it is logged once.
    """

    def __init__(self) -> None:
        self.read_bytes: Counter[str] = Counter()
        self.stored_bytes: Counter[str] = Counter()
        self.part_seconds: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(PART_BOUNDS_S))
        self.file_seconds: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(FILE_BOUNDS_S))
        self.answer_seconds: defaultdict[tuple[Side, str], Histogram] = defaultdict(lambda: Histogram(ANSWER_BOUNDS_S))
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.errors: Counter[tuple[Side, str]] = Counter()
        self.retries: Counter[Side] = Counter()
        self.leases_lost = 0
        self.wait_logged_until_s: dict[Side, float] = {}

    @contextmanager
    def sending(self, dataset: str, body: Counted) -> Iterator[None]:
        """Count a body as in transfer while the block runs; only a block that ends well is timed."""
        began_s = time.monotonic()
        try:
            yield
            self.part_seconds[dataset].observe(time.monotonic() - began_s)
        finally:
            self.read_bytes[dataset] += body.seen

    async def answer(self, side: Side, operation: str, request: Awaitable[T]) -> T:
        """Time the answer to a request, if there is one."""
        began_s = time.monotonic()
        answer = await request
        self.answer_seconds[side, operation].observe(time.monotonic() - began_s)
        return answer

    def failed(self, error: RemoteError) -> None:
        """Count a failed try of a request; HEAD of a missing object is no failure."""
        if (error.side, error.kind) != (Side.TARGET, Kind.NOT_FOUND):
            self.errors[error.side, error.kind] += 1

    def ended(self, dataset: str, outcome: str | None) -> None:
        """Count a claim that ended; None for one that was lost."""
        self.attempts[dataset, outcome or LOST] += 1
