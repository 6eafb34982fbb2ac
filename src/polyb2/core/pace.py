"""How many requests a second a side is asked: as many as there are, until it throttles; then what it took, and a little more.

Multiplicative decrease, then growth: fast at first, and careful once the limit is found, so that about one request of a
hundred meets it. It is found when a throttle comes although about as much was accepted as the pace let through. A limit of
requests and one of bytes are found alike, as requests of one phase are of a size. A configured rate is the ceiling. Pure
arithmetic: the time is passed in, in seconds of any steady clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

TOGETHER = 30
TOGETHER_S = 0.5, 30.0
"""Throttles are counted over the time that so many requests take, within these seconds."""
DOUBT_SHARE = 0.1
DOUBT_MIN = 3
MEASURED_S = 2.0
"""Over which what a side accepts is measured where nothing slows it down; afterwards it is since the last cut."""
BURST = 8
BURST_S = 0.1
"""Fewer requests, or a shorter time, are a burst that says little about a rate."""
AT_ONCE = 4
GENTLY = 32
GENTLY_S = 0.008
"""After a lull not all ask at once: so many do, and the next are spaced, so that a side that refuses is known before."""
CUT = 0.92
CUT_MOST = 0.5
"""What was accepted may be little because little was asked: no pace is cut by more."""
FOUND_MIN = 3
FOUND_SHARE = 0.5
FOUND_ABOVE = 0.85
"""So many requests, and so much of the pace, were accepted when the limit was met: it is found, and not far below."""
FOUND_FOR = 300
FOUND_FOR_S = 30.0, 120.0
"""A found limit is believed for so many requests, within these seconds; then it was a passing one, and is forgotten."""
REST_S = 0.25
"""Nothing is asked for so long after a cut: the side's bucket fills again."""
FLOOR = 0.2
"""Requests a second that are always tried."""
FORGOTTEN = 10_000.0


@dataclass(frozen=True, slots=True)
class Growth:
    """How a pace grows: exponentially, by ``a_second`` or by ``a_request``, whichever is slower."""

    a_second: float
    a_request: float

    def grown(self, rate: float, seconds: float) -> float:
        """What ``rate`` has become."""
        edge = self.a_second / self.a_request
        if rate < edge:
            until_edge_s = (1 / rate - 1 / edge) / self.a_request
            if seconds < until_edge_s:
                return max(rate, 1 / (1 / rate - self.a_request * seconds))
            rate, seconds = edge, seconds - until_edge_s
        return rate * math.exp(min(self.a_second * seconds, 100.0))


FAST = Growth(a_second=0.2, a_request=0.1)
CAREFUL = Growth(a_second=0.008, a_request=0.0007)


class Ticket(NamedTuple):
    """A request that was let through: the how manyth, and when."""

    number: int
    at_s: float


class Pace:
    """The pace of one side.

    Args:
        ceiling: configured requests a second; 0 is none.
    """

    def __init__(self, ceiling: float = 0.0) -> None:
        self._ceiling = ceiling
        self._limit: float | None = None
        self._is_found = False
        self._cut_s = -math.inf
        self._next_s = -math.inf
        self._asked = 0
        self._first_since_cut = 1
        self._recent: deque[Ticket] = deque()
        self._throttled: deque[tuple[float, Ticket]] = deque()

    def per_second(self, now_s: float) -> float | None:
        """Requests a second that are let through; None where nothing limits them."""
        grown = self._grown(now_s)
        if grown is None:
            return self._ceiling or None
        return min(grown, self._ceiling) if self._ceiling else grown

    def wait_s(self, now_s: float) -> float:
        """How long the next request has to wait."""
        return max(0.0, self._next_s - now_s)

    def start(self, now_s: float) -> Ticket:
        """A request is made now."""
        rate = self.per_second(now_s)
        if rate is not None:
            self._next_s = max(self._next_s, now_s) + 1 / rate
        self._asked += 1
        ticket = Ticket(self._asked, now_s)
        self._recent.append(ticket)
        while self._recent[0].at_s < now_s - MEASURED_S:
            self._recent.popleft()
        if AT_ONCE <= len(self._recent) < GENTLY:
            self._next_s = max(self._next_s, now_s + GENTLY_S)
        return ticket

    def throttled(self, now_s: float, ticket: Ticket, *, sure: bool) -> None:
        """A request was answered that there are too many (``sure``), or with a 503 that may mean that.

        A single 503 is routine for a large store; a tenth of all requests is a limit. Where none is known yet, the same goes
        for a throttle that is sure: it may be one file's, and the others are not to be held up by it. What was asked
        before the last cut says nothing about the pace since.
        """
        if ticket.at_s <= self._cut_s:
            return
        self._throttled.append((now_s, ticket))
        is_known = sure and self._grown(now_s) is not None
        if is_known or self._is_much(now_s):
            self._cut(now_s, min(first for _, first in self._throttled))

    def _is_much(self, now_s: float) -> bool:
        rate, (least_s, most_s) = self._grown(now_s), TOGETHER_S
        window_s = least_s if rate is None else min(max(least_s, TOGETHER / rate), most_s)
        while self._throttled[0][0] < now_s - window_s:
            self._throttled.popleft()
        asked = sum(one.at_s >= now_s - window_s for one in self._recent) if rate is None else rate * window_s
        return len(self._throttled) >= max(DOUBT_MIN, DOUBT_SHARE * asked)

    def _cut(self, now_s: float, first: Ticket) -> None:
        """Slow down; ``first`` is the first request that met the limit: those before it did not."""
        rate, self._is_found = self._grown(now_s), False
        if rate is None:
            asked = len(self._recent) / MEASURED_S
            limit = self._accepted(self._recent[0], first) or CUT_MOST * asked
        else:
            accepted = self._accepted(Ticket(self._first_since_cut, self._cut_s), first)
            self._is_found = first.number - self._first_since_cut >= FOUND_MIN and accepted > FOUND_SHARE * rate
            least = FOUND_ABOVE if self._is_found else CUT_MOST
            limit = max(math.sqrt(accepted * rate) if self._is_found else accepted, least * rate)
        self._limit = max(FLOOR, CUT * limit)
        self._cut_s = now_s
        self._next_s = max(self._next_s, now_s + max(REST_S, 1 / self._limit))
        self._first_since_cut = self._asked + 1
        self._recent.clear()
        self._throttled.clear()

    @staticmethod
    def _accepted(since: Ticket, refused: Ticket) -> float:
        """Requests a second that were accepted from ``since`` on."""
        count = max(0, refused.number - since.number)
        return count / max(refused.at_s - since.at_s, BURST_S if count >= BURST else 1.0)

    def _grown(self, now_s: float) -> float | None:
        if self._limit is None:
            return None
        age_s, rate = now_s - self._cut_s, self._limit
        if self._is_found:
            least_s, most_s = FOUND_FOR_S
            careful_s = min(max(FOUND_FOR / rate, least_s), most_s, age_s)
            rate, age_s = CAREFUL.grown(rate, careful_s), age_s - careful_s
        rate = FAST.grown(rate, age_s)
        if rate > FORGOTTEN:
            self._limit = None
            return None
        return rate
