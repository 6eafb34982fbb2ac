"""Concurrency limits: as many bodies at once as the event loop's thread and the line can carry. Pure arithmetic.

Where the thread has no time left, more bodies under way bring no byte sooner: they push each other out of the processor's
caches, and each holds buffers. Where the line is full, they starve each other: a part that gets its share of a slow line
takes hours, and whatever ends it sends all of it again.
"""

from __future__ import annotations

FEW = 8
"""Bodies that move at once in any case, as far as the thread goes; measured: at 4 GiB over loopback neither 4 nor 16 are
faster."""
REMEMBERED = 0.75
"""Weight of the past at each look: after half a second most of it is forgotten."""
SPARE, FULL = 0.6, 0.9
"""Shares of the time that the thread works: below the first, more bodies may move; above the second, fewer."""

ENOUGH = 64 * 1024
"""Bytes a second of one body; while each gets that, more may join. An automatic part then takes 2 to 17 minutes."""
FIRST = 2
"""Long bodies that start before the line's capacity is known."""
MOMENT_S = 2.0
"""A body that ends within this time was not limited by the line; a longer one gives evidence of its capacity."""
SETTLED_S = 5.0
"""The number of moving bodies must be unchanged for this long before their rate counts."""
GAIN = 1.5
"""Doubling the bodies has to raise the total rate by this factor; otherwise the line was already full."""
AGAIN_S = 300.0
"""A full line is tried again after this time."""

CROWDED_FACTOR = 3.0
"""Stall time-outs that a body gets on a full line."""
TRICKLE = 100.0
"""Bytes a second that count as no progress: the slowest modem had ten times that, and a part would take a day."""
TRICKLE_SHARE = 0.01
TRICKLE_MOST = 4096.0
"""A body that gets less than this share of the others' rate trickles; one that gets this many bytes a second never does."""


def trickles(rate: float, others: float | None) -> bool:
    """Tell if a body of ``rate`` bytes a second should be requested again; ``others``: the rate of those beside it."""
    if others is None or others < ENOUGH:
        return rate < TRICKLE
    return rate < max(TRICKLE, min(TRICKLE_SHARE * others, TRICKLE_MOST))


def stall_factor(others: float | None) -> float:
    """The number of stall time-outs without progress after which a body counts as stalled.

    Args:
        others: bytes a second of the bodies beside it. On a full line that they share, TCP may stall one of them for
            a while; what was already sent of it should not be sent again.
    """
    return CROWDED_FACTOR if others is not None and TRICKLE < others < ENOUGH else 1.0


class ThreadLimit:
    """Follows the thread's load while bodies wait: doubles where it has time to spare, and falls one by one."""

    def __init__(self, slots: int) -> None:
        self._most = slots
        self._few = min(FEW, slots)
        self._share: float | None = None
        self.bodies = self._few
        """Bodies that may move at once now."""

    def look(self, share: float) -> None:
        """The thread worked for ``share`` of the time since the last look, 0 to 1."""
        before = share if self._share is None else self._share
        self._share = REMEMBERED * before + (1 - REMEMBERED) * share
        if self._share < SPARE:
            self.bodies = min(2 * self.bodies, self._most)
        elif self._share > FULL:
            self.bodies = max(self.bodies - 1, self._few)


class LineLimit:
    """Follows the rate of the bodies: doubles while each gets enough.

    Otherwise it tries more bodies, and keeps them if the total rises; or fewer, and keeps to them if it does not fall.
    Short bodies are limited only until the first has ended in a moment, and on a line that is known to be crowded.
    """

    def __init__(self, slots: int) -> None:
        self._most = slots
        self.bodies = min(FIRST, slots)
        """Long bodies that may move at once now."""
        self.is_crowded = True
        """Short bodies are limited as well."""
        self._is_known = False
        self._moving = 0
        self._since: tuple[float, int] = (0.0, 0)
        self._tried: tuple[int, float] | None = None
        """The number of bodies and their total rate before the trial in progress."""
        self._may_fall = True
        self._rests_until_s = 0.0

    def look(self, now_s: float, passed_bytes: int, moving: int, lasting: int) -> None:
        """Take a sample.

        Args:
            now_s: the time.
            passed_bytes: of all bodies so far.
            moving: bodies that were admitted and have not ended.
            lasting: those of them that have been in transfer for a while.
        """
        if moving != self._moving:
            self._moving, self._since = moving, (now_s, passed_bytes)
            return
        span_s = now_s - self._since[0]
        if span_s <= 0 or not moving:
            return
        rate = (passed_bytes - self._since[1]) / span_s
        if rate >= ENOUGH * max(moving, self.bodies):
            self._widen(now_s, passed_bytes)
        elif span_s >= SETTLED_S:
            self._since = (now_s, passed_bytes)
            self._settle(now_s, moving, rate, is_crowded=2 * lasting >= moving)

    def through(self, seconds: float) -> None:
        """Note the duration of a body that ended."""
        if not self._is_known and seconds < MOMENT_S:
            self._is_known, self.is_crowded = True, False

    def _settle(self, now_s: float, moving: int, rate: float, *, is_crowded: bool) -> None:
        if is_crowded and not self.is_crowded:
            self.bodies = min(max(self.bodies, int(rate / ENOUGH)), self._most)
        self._is_known, self.is_crowded = True, is_crowded
        if is_crowded and moving >= self.bodies:
            self._weigh(now_s, moving, rate)

    def _widen(self, now_s: float, passed_bytes: int) -> None:
        """Raise the limit: each body gets enough."""
        self._is_known, self.is_crowded = True, False
        self._tried, self._rests_until_s, self._may_fall = None, 0.0, True
        self._since = (now_s, passed_bytes)
        self.bodies = min(2 * self.bodies, self._most)

    def _weigh(self, now_s: float, moving: int, rate: float) -> None:
        """Weigh a change, as each body gets less than enough."""
        if moving > self.bodies:
            return  # those above the limit have to end first
        if self._tried is not None:
            self._judge(now_s, moving, rate, *self._tried)
        elif now_s >= self._rests_until_s:
            falls = self._may_fall and moving > FIRST and rate < ENOUGH * moving / 4
            self.bodies = max(FIRST, int(rate / ENOUGH)) if falls else min(2 * moving, self._most)
            self._tried = (moving, rate) if self.bodies != moving else None

    def _judge(self, now_s: float, moving: int, rate: float, before: int, got: float) -> None:
        """A trial is right if more bodies brought more, or fewer no less; each right one is followed by another."""
        if moving == before:
            return
        self._tried = None
        grew, is_right = moving > before, rate * GAIN >= got if moving < before else rate >= GAIN * got
        if is_right:
            self._may_fall = not grew
            return
        self.bodies = before
        self._may_fall = grew
        if grew:
            self._rests_until_s = now_s + AGAIN_S
