"""How many bodies may move at once: as many as the event loop's thread and the line carry. Pure arithmetic.

Where the thread has no time left, more bodies under way bring no byte sooner: they push each other out of the processor's
caches, and each holds buffers. Where the line is full, they starve each other: a part that gets its share of a slow line
takes hours, and whatever ends it sends all of it again.
"""

from __future__ import annotations

FEW = 8
"""Bodies that move at once in any case, as far as the thread goes; measured: at 4 GiB over loopback neither 4 nor 16 are
faster."""
REMEMBERED = 0.75
"""How much a look leaves of what was seen before: it takes half a second until most is forgotten."""
SPARE, FULL = 0.6, 0.9
"""Shares of the time that the thread works: below the first more bodies may move, above the other fewer."""

ENOUGH = 64 * 1024
"""Bytes a second of one body; while each gets that, more may join. An automatic part then takes 2 to 17 minutes."""
FIRST = 2
"""Long bodies that begin before anything is known of the line."""
MOMENT_S = 2.0
"""A body that is through within this was not held up by the line; one that lasts longer tells something of it."""
SETTLED_S = 5.0
"""For how long as many bodies moved, until what they got is believed."""
GAIN = 1.5
"""Twice the bodies have to bring so much more, or the line was full before."""
AGAIN_S = 300.0
"""After what time a full line is tried once more."""

CROWDED_PATIENCE = 3.0
"""Stall time-outs of a body on a line that is full."""
TRICKLE = 100.0
"""Bytes a second that are no line: the slowest modem had ten times that, and a part would take a day."""
TRICKLE_SHARE = 0.01
TRICKLE_MOST = 4096.0
"""A body that gets less than this share of what the others get trickles; never one that gets the latter."""


def trickles(rate: float, others: float | None) -> bool:
    """Whether a body of ``rate`` bytes a second is to be asked for again; ``others``: what those beside it get."""
    if others is None or others < ENOUGH:
        return rate < TRICKLE
    return rate < max(TRICKLE, min(TRICKLE_SHARE * others, TRICKLE_MOST))


def stall_factor(others: float | None) -> float:
    """For how many stall time-outs no byte of a body may move; ``others``: bytes a second that those beside it get.

    Where they share a full line, TCP lets one or another wait for its turn; what is sent of it is not to be sent again.
    """
    return CROWDED_PATIENCE if others is not None and TRICKLE < others < ENOUGH else 1.0


class ThreadLimit:
    """Follows the thread's share of work while somebody waits: doubles where it has time to spare, and falls one by one."""

    def __init__(self, streams: int) -> None:
        self._most = streams
        self._few = min(FEW, streams)
        self._share: float | None = None
        self.bodies = self._few
        """That may move at once now."""

    def look(self, share: float) -> None:
        """The thread worked for ``share`` of the time since the last look, 0 to 1."""
        before = share if self._share is None else self._share
        self._share = REMEMBERED * before + (1 - REMEMBERED) * share
        if self._share < SPARE:
            self.bodies = min(2 * self.bodies, self._most)
        elif self._share > FULL:
            self.bodies = max(self.bodies - 1, self._few)


class LineLimit:
    """Follows what the bodies get: doubles while each gets enough, else climbs or falls as long as that brings bytes.

    Short bodies are bound only until the first is through in a moment, and on a line that is known to be crowded.
    """

    def __init__(self, streams: int) -> None:
        self._most = streams
        self.bodies = min(FIRST, streams)
        """Long ones that may move at once now."""
        self.is_crowded = True
        """Short ones are bound as well."""
        self._is_known = False
        self._moving = 0
        self._since: tuple[float, int] = (0.0, 0)
        self._tried: tuple[int, float] | None = None
        """How many moved, and what they got, before the trial that is under way."""
        self._may_fall = True
        self._rests_until_s = 0.0

    def look(self, now_s: float, passed_bytes: int, moving: int, lasting: int) -> None:
        """Note what passed.

        Args:
            now_s: the time.
            passed_bytes: by all bodies so far.
            moving: bodies that were let through and have not ended.
            lasting: those of them that have been on their way for a while.
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
        """A body is through, after so long."""
        if not self._is_known and seconds < MOMENT_S:
            self._is_known, self.is_crowded = True, False

    def _settle(self, now_s: float, moving: int, rate: float, *, is_crowded: bool) -> None:
        if is_crowded and not self.is_crowded:
            self.bodies = min(max(self.bodies, int(rate / ENOUGH)), self._most)
        self._is_known, self.is_crowded = True, is_crowded
        if is_crowded and moving >= self.bodies:
            self._weigh(now_s, moving, rate)

    def _widen(self, now_s: float, passed_bytes: int) -> None:
        """Each gets enough."""
        self._is_known, self.is_crowded = True, False
        self._tried, self._rests_until_s, self._may_fall = None, 0.0, True
        self._since = (now_s, passed_bytes)
        self.bodies = min(2 * self.bodies, self._most)

    def _weigh(self, now_s: float, moving: int, rate: float) -> None:
        """Each gets less than enough: see what more bodies, or fewer, bring."""
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
