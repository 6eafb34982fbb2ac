"""The rate over time: samples of the bytes that came in, for the chart and the time left."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

SAMPLE_S = 5.0
WINDOW_S = 3600.0
LATELY_S = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes that had come in at a moment of the monotonic clock."""

    at_s: float
    bytes: int


class Rates:
    """An hour of samples, one every five seconds; :meth:`run` takes them."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._samples: deque[Sample] = deque(maxlen=int(WINDOW_S / SAMPLE_S) + 1)

    async def run(self) -> None:
        while True:
            self.take()
            await asyncio.sleep(SAMPLE_S)

    def take(self) -> None:
        self._samples.append(Sample(asyncio.get_running_loop().time(), self._count()))

    def lately(self) -> float | None:
        """Bytes per second of the last minute, or since the first sample; None before there is anything to compare."""
        now = Sample(asyncio.get_running_loop().time(), self._count())
        first = next((sample for sample in self._samples if now.at_s - sample.at_s <= LATELY_S), None)
        if first is None or now.at_s - first.at_s < 1:
            return None
        return (now.bytes - first.bytes) / (now.at_s - first.at_s)

    def points(self, most: int) -> list[tuple[float, float]]:
        """At most ``most`` points of (seconds ago, bytes per second), the oldest first; each a mean since the one before."""
        samples = list(self._samples)
        step = max(1, -(-(len(samples) - 1) // most))
        kept = samples[::-1][::step][::-1]
        now_s = asyncio.get_running_loop().time()
        return [
            (now_s - after.at_s, (after.bytes - before.bytes) / max(after.at_s - before.at_s, 0.001))
            for before, after in pairwise(kept)
        ]
