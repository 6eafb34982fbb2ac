"""How many requests a second a side is asked: as many as there are, until it throttles; then what it took, and a little more.

Additive increase, multiplicative decrease: a throttled side is asked a little less often than it just accepted, and from
there one per cent of that more every second. A limit of requests and one of bytes are found alike, as requests of one phase
are of a size. A configured rate is the ceiling. Pure arithmetic: the time is passed in, in seconds of any steady clock.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 2.0
"""Over which what a side accepts is measured."""
CUT = 0.92
GROWTH_A_SECOND = 0.01
SLOW_FOR_S = 30.0
"""After so long without a throttle the limit is forgotten step by step: it was a passing one."""
FAST_A_SECOND = 0.1
REST_S = 0.25
"""Nothing is asked for so long after a cut: the side's bucket fills again."""
HOLD_S = 1.0
"""What is answered within this time after a cut was asked before it, and says nothing about the new pace."""
NEARLY = 0.7
FLOOR = 0.2
"""Requests a second that are always tried."""
DOUBT_SHARE = 0.1
DOUBT_MIN = 3
FORGOTTEN = 10_000.0


class Pace:
    """The pace of one side.

    Args:
        ceiling: configured requests a second; 0 is none.
    """

    def __init__(self, ceiling: float = 0.0) -> None:
        self._ceiling = ceiling
        self._limit: float | None = None
        self._limit_since_s = 0.0
        self._cut_s = float("-inf")
        self._next_s = float("-inf")
        self._starts: deque[float] = deque()
        self._rejections: deque[float] = deque()

    def per_second(self, now_s: float) -> float | None:
        """Requests a second that are let through; None where nothing limits them."""
        found = self._found(now_s)
        if found is None:
            return self._ceiling or None
        return min(found, self._ceiling) if self._ceiling else found

    def wait_s(self, now_s: float) -> float:
        """How long the next request has to wait."""
        return max(0.0, self._next_s - now_s)

    def start(self, now_s: float) -> None:
        """A request is made now."""
        rate = self.per_second(now_s)
        if rate is not None:
            self._next_s = max(self._next_s, now_s) + 1 / rate
        self._forget(now_s)
        self._starts.append(now_s)

    def throttled(self, now_s: float, *, sure: bool) -> None:
        """A request was answered that there are too many (``sure``), or with a 503 that may mean that.

        A single 503 is routine for a large store; a tenth of all requests is a limit. Where none is known yet, the same goes
        for a throttle that is sure: it may be one file's, and the others are not to be held up by it.
        """
        self._rejections.append(now_s)
        self._forget(now_s)
        if now_s - self._cut_s < HOLD_S:
            return
        is_known = sure and self._limit is not None
        is_much = len(self._rejections) >= max(DOUBT_MIN, DOUBT_SHARE * len(self._starts))
        if not (is_known or is_much):
            return
        accepted = max(0, len(self._starts) - len(self._rejections)) / self._measured_s(now_s)
        rate = self.per_second(now_s)
        # A pace that was nearly taken is the better measure: what was accepted also counts the rests.
        base = rate if rate is not None and accepted > NEARLY * rate else accepted
        self._limit = max(FLOOR, CUT * base)
        self._limit_since_s = self._cut_s = now_s
        self._next_s = max(self._next_s, now_s + REST_S)

    def _found(self, now_s: float) -> float | None:
        if self._limit is None:
            return None
        age_s = now_s - self._limit_since_s
        grown = self._limit * (1 + GROWTH_A_SECOND * min(age_s, SLOW_FOR_S))
        if age_s > SLOW_FOR_S:
            grown *= (1 + FAST_A_SECOND) ** min(age_s - SLOW_FOR_S, 1000.0)
        if grown > FORGOTTEN:
            self._limit = None
        return self._limit and grown

    def _measured_s(self, now_s: float) -> float:
        since_s = min(now_s - self._starts[0], WINDOW_S) if self._starts else WINDOW_S
        return max(since_s, 0.1)

    def _forget(self, now_s: float) -> None:
        for moments in (self._starts, self._rejections):
            while moments and moments[0] < now_s - WINDOW_S:
                moments.popleft()
