"""The rate over the last hour: samples of the bytes that were received, and the chart of them."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from polyb2.core.units import format_duration, format_size

SAMPLE_S = 5.0
WINDOW_S = 3600.0
LATELY_S = 60.0
POINTS_MAX = 180
SPAN_MIN_S = 300.0
WIDTH, HEIGHT = 1000, 100


@dataclass(frozen=True, slots=True)
class Sample:
    """Bytes received by a moment of the monotonic clock."""

    at_s: float
    bytes: int


class Rates:
    """An hour of samples, one every five seconds; :meth:`run` takes them."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._samples: deque[Sample] = deque(maxlen=int(WINDOW_S / SAMPLE_S) + 1)

    async def run(self) -> None:
        while True:
            self._samples.append(self._sample())
            await asyncio.sleep(SAMPLE_S)

    def lately(self) -> float | None:
        """Bytes per second of the last minute, or since the first sample; None before there is anything to compare."""
        now = self._sample()
        first = next((sample for sample in self._samples if now.at_s - sample.at_s <= LATELY_S), None)
        if first is None or now.at_s - first.at_s < 1:
            return None
        return (now.bytes - first.bytes) / (now.at_s - first.at_s)

    def _sample(self) -> Sample:
        return Sample(asyncio.get_running_loop().time(), self._count())

    def points(self, most: int) -> list[tuple[float, float]]:
        """At most ``most`` points of (seconds ago, bytes per second), oldest first; each is a mean since the one before."""
        samples = list(self._samples)
        step = max(1, -(-(len(samples) - 1) // most))
        kept = samples[::-1][::step][::-1]
        now_s = asyncio.get_running_loop().time()
        return [
            (now_s - after.at_s, (after.bytes - before.bytes) / max(after.at_s - before.at_s, 0.001))
            for before, after in pairwise(kept)
        ]


@dataclass(frozen=True, slots=True)
class Chart:
    """A line in a box of :data:`WIDTH` by :data:`HEIGHT`, the area below it, and a summary in words.

    Points are as SVG writes them; ``span_s`` is the width, ``top`` the height in bytes per second.
    """

    line: str
    area: str
    span_s: float
    top: float
    words: str


def chart_of(points: Sequence[tuple[float, float]]) -> Chart | None:
    """The chart of (seconds ago, bytes per second), oldest first; None of fewer than two points, which make no line."""
    if len(points) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    span_s = max(SPAN_MIN_S, points[0][0])
    rates = [rate for _, rate in points]
    top = _round_up(max(rates))
    xs = [WIDTH * (1 - ago_s / span_s) for ago_s, _ in points]
    ys = [HEIGHT * (1 - rate / top) for rate in rates]
    words = (
        f"Rate over the last {format_duration(points[0][0])}: {format_size(rates[-1])}/s at the end, "
        f"{format_size(sum(rates) / len(rates))}/s on average, {format_size(max(rates))}/s at most."
    )
    line = " ".join(f"{x:.0f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    return Chart(line, f"{xs[0]:.0f},{HEIGHT} {line} {xs[-1]:.0f},{HEIGHT}", span_s, top, words)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if value <= 0:
        return 1e6
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
