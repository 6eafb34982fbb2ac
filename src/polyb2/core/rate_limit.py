"""Rate limiter of one side: as fast as possible, until refusals are shown to depend on the pace.

A service refuses requests for two kinds of reasons. Some depend on how fast it is asked: a limit of requests, of bytes, of
requests at once. Others do not: a vault that is full, one bad file, an outage. Both may send the same answer, so only an
experiment tells them apart: ask more slowly for a while, and see whether the refusals stop.

- Steady: the pace grows with accepted requests. Refusals above the ordinary share are evidence that something changed.
- High, the first half of an experiment: the pace stays as it is; the share of refusals and the accepted requests a second
  are measured.
- Low, the second half: a little slower than what was accepted. A limit refuses nothing there, and everything else
  refuses the same share as before. A sequential test (Wald's) decides between the two. Where nothing at all was accepted,
  the pace falls in steps until something is, or it is as low as it gets.
- Above: a limit that was found is met at a pace at which it was not met before. A look a sixth above it shows whether it is
  still there.

If the refusals stopped, the limit is what was accepted: the pace grows carefully from there, and each refusal cuts it. If
they did not, the pace was not their cause: it returns to what it was, and their share is the ordinary one from then on.

Pure arithmetic: the time is passed in, in seconds of any steady clock. Windows are measured in requests, so that the same
numbers serve one request a second and a thousand. Of each constant, what halving or doubling it breaks of the laws in
``tests/core/rate_laws.py`` can be measured again: ``python -m tests.core.rate_laws --sweep``. What is said
was measured at 4 slots, 30 ms and 128 slots, 200 ms, seed 0, unless another place is named.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

START = 100.0
"""Requests a second at first. Half: with 60 % refused at random goodput is 89 % at 128 slots."""
FLOOR = 0.5
"""Requests a second that are always tried. Half: ten seconds after an outage goodput is 78 to 83 %. Double: a limit of 0.9 a
second is overrun for ever."""
TOGETHER_S = 0.005
"""A request that would wait for less starts at once, and the next waits for longer: as many a second, and five together at a
pace of a thousand. Without it, each request of fast small files has its own timer. Double: 88 % at a share of 33 %."""
SEARCH = 2.0
"""Growth by an accepted request, in requests a second, where no limit is known. Half: goodput is 89 % at refusals of
20 % and 200 ms."""
CAREFUL = 0.0005
CUT = 0.95
"""Growth by an accepted request and cut by a refusal, as shares of the pace, at a found limit: they balance at CAREFUL / (1
- CUT) = 1 % of refusals. Half the growth: a limit that moved is at 76 %. Double: 3.9 % are refused at one at once."""
COUNTED = 60
"""Requests a second that count for growth at a found limit. Without it, 15 % of 300 a second are refused at 200 ms; half or
double breaks no law."""
FASTER = 4.0
"""Factor of that growth where a found limit is passed by two cuts without a refusal, and divisor at each refusal. Half: a
limit of 0.9 a second is at 89.5 %."""
TOLERATED = 0.03
"""Share of refusals that raises no question. Half: of 50 a second at 200 ms 2.3 % are refused. Double: goodput is 85 % at a
share of 33 %."""
EVIDENCE = 2.5
"""Refusals beyond the ordinary and the tolerated share that begin an experiment. Half: 2.6 % of 50 a second are refused."""
CERTAIN = 3.0
"""Logarithm of what the sequential test believes: e^3 times as likely, Wald's bound for one error of twenty. Half breaks
no law; double: ten seconds after an outage goodput is 84 %."""
MEASURED = 100
FEW = 16
"""The first half ends after so many answers, or after a few, if twice CERTAIN more than expected are refusals. Half or
double of either breaks no law."""
BELOW = 0.85
"""Pace of the second half by what was accepted. A share that fell by more than that fell because of the pace. A look above a
limit is as much faster. Twice as far from one: a limit of 0.9 a second is overrun for ever; half as far breaks no law."""
FALLEN = 8.0
"""The refusals have stopped if an eighth of their share is likelier than the same share. Half or double: goodput is 79 or
87 % at a share of 33 %."""
NEARLY_ALL = 0.9
"""Where more of the answers are refusals, what was accepted is too little to go by. Half as far from
one: a limit of 0.9 a second is at 89 %; twice as far breaks no law."""
REVIEWED = 20_000
"""An ordinary share is put to the test again so many requests after the verdict. Without it, 57 % of the requests to a limit
that follows such a share are refused for ever. Half: with seeds 0 and 1 goodput is 89 % at a share of 33 %. Double: a limit
of 50 a second is not found within 400 s."""


class Phase(Enum):
    """The state of the limiter; see the module."""

    STEADY = "steady"
    HIGH = "high"
    LOW = "low"
    ABOVE = "above"


class Ticket(NamedTuple):
    """A request that was admitted: its number, and when."""

    number: int
    at_s: float


class Measured(NamedTuple):
    """The first half of an experiment: the pace that was set, the share refused, the requests a second."""

    pace: float
    share: float
    rate: float

    @property
    def accepted(self) -> float:
        """Requests a second that were accepted."""
        return self.rate * (1 - self.share)


class RateLimiter:
    """The limiter of the requests a second to one side.

    Args:
        ceiling: configured requests a second; 0 for none.
    """

    def __init__(self, ceiling: float = 0.0) -> None:
        self.ceiling = ceiling or math.inf
        """Requests a second that are let through at most; it may change at any time, and 0 lets none through."""
        self._pace = START
        """Requests a second."""
        self._step = math.inf
        """Growth at a found limit, as a share of the pace; infinite where no limit is known."""
        self._mark = 0.0
        """The pace at which a found limit was met."""
        self._ordinary = 0.0
        """The share of refusals that does not depend on the pace."""
        self._measured = Measured(math.inf, 0.0, 0.0)
        self._asked = self._judged = 0
        self._last_s = -math.inf
        self._latest_s = 0.0
        self._answers = self._refusals = 0
        self._enter(Phase.STEADY, 0.0)

    @property
    def per_second(self) -> float:
        """Requests a second that are let through."""
        return min(self._pace, self.ceiling)

    @property
    def limit(self) -> float | None:
        """Requests a second that the settings or the side allow, as far as that is known: no limit is known at the start."""
        if self._phase is not Phase.STEADY or self._is_found:
            return self.per_second
        return self.ceiling if self.ceiling < math.inf else None

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may start; infinite while none may."""
        per_second = self.per_second
        wait_s = self._last_s + 1 / per_second - now_s if per_second else math.inf
        return wait_s if wait_s > TOGETHER_S else 0.0

    def start(self, now_s: float) -> Ticket:
        """Count a request that starts now."""
        apart_s = 1 / self.per_second
        # A timer that fires late is made up for, by one request at the most.
        self._last_s = max(self._last_s + apart_s, now_s - apart_s)
        self._asked += 1
        return Ticket(self._asked, now_s)

    def answered(self, now_s: float, ticket: Ticket, *, refused: bool) -> None:
        """Judge an answer. One to a request from before the last change says nothing about the pace since."""
        if ticket.number < self._first:
            return
        self._answers += 1
        self._refusals += refused
        self._latest_s = max(self._latest_s, ticket.at_s)
        match self._phase:
            case Phase.STEADY:
                self._go_on(now_s, refused=refused)
            case Phase.HIGH:
                self._measure(now_s, refused=refused)
            case Phase.LOW:
                self._test(now_s, refused=refused)
            case Phase.ABOVE:
                self._look_above(now_s)

    def _enter(self, phase: Phase, now_s: float) -> None:
        """Begin to count: only what is asked from now on."""
        self._phase = phase
        self._first = self._asked + 1
        self._began_s, self._latest_s = now_s, now_s
        self._answers = self._refusals = 0
        self._is_settled = False
        self._evidence = self._forgiven = self._likelihood = 0.0

    @property
    def _is_found(self) -> bool:
        """Tell if the pace is that of a limit which was found."""
        return self._step < math.inf

    @property
    def _expected(self) -> float:
        """The share of refusals that raises no question."""
        return 1.5 * self._ordinary + TOLERATED

    @property
    def _excess(self) -> float:
        """Refusals beyond what is expected."""
        return self._refusals - self._expected * self._answers

    @property
    def _is_clear(self) -> bool:
        """Tell if enough was accepted to measure it, or for long hardly anything."""
        return self._answers - self._refusals >= CERTAIN or self._answers >= FEW

    def _go_on(self, now_s: float, *, refused: bool) -> None:
        if self._ordinary > TOLERATED and self._asked - self._judged >= REVIEWED:
            self._ordinary = 0.0
            self._enter(Phase.HIGH, now_s)
            return
        self._evidence = max(0.0, self._evidence + refused - self._expected)
        self._forgiven = min(EVIDENCE, self._forgiven + 1.5 * self._ordinary)
        if self._ordinary and not self._is_found:
            self._ordinary += (refused - self._ordinary) / MEASURED
        if self._evidence >= EVIDENCE:
            self._enter(Phase.HIGH, now_s)
        elif not refused:
            self._grow()
        elif self._forgiven >= 1:
            self._forgiven -= 1
        elif self._is_found:
            self._meet(now_s, self._pace)

    def _grow(self) -> None:
        if self._is_found and self._pace * CUT**2 > self._mark:
            self._mark = self._pace
            self._quicken(FASTER * self._step)
        self._pace += min(SEARCH, self._growth(self._step))

    def _quicken(self, step: float) -> None:
        """Grow so much at a found limit; as where no limit is known, if that is no more."""
        self._step = step if self._growth(step) < SEARCH else math.inf

    def _growth(self, step: float) -> float:
        """Growth by an accepted request at a found limit."""
        return step * min(self._pace, COUNTED)

    def _meet(self, now_s: float, pace: float) -> None:
        """A found limit was met: a little slower, once for all that is under way together."""
        is_careful = self._step <= CAREFUL
        if is_careful and self._answers > MEASURED and pace < self._mark * (1 + CUT) / 2:
            self._pace = pace / BELOW
            self._enter(Phase.ABOVE, now_s)
            return
        self._mark = min(self._mark, pace) if is_careful else pace
        self._step = max(CAREFUL, self._step / FASTER)
        self._pace = max(FLOOR, pace * CUT)
        self._first = self._asked + 1

    def _look_above(self, now_s: float) -> None:
        if self._excess >= EVIDENCE:
            # It is still there; the refusal below it was another's.
            self._pace *= BELOW
            self._mark = self._pace
            self._enter(Phase.STEADY, now_s)
        elif self._answers >= MEASURED:
            self._step = math.inf
            self._enter(Phase.STEADY, now_s)

    def _measure(self, now_s: float, *, refused: bool) -> None:
        """Count until the share is clear; refusals that stop by themselves, at this very pace, raise no question."""
        if self._answers >= MEASURED and self._excess <= 0:
            self._enter(Phase.STEADY, now_s)
        elif refused and (self._answers >= MEASURED or (self._excess >= 2 * CERTAIN and self._is_clear)):
            self._compare(now_s)

    def _compare(self, now_s: float) -> None:
        """The share of refusals is known: ask more slowly than what was accepted."""
        rate = self._answers / max(self._latest_s - self._began_s, 1e-3)
        self._measured = Measured(self._pace, self._refusals / self._answers, min(rate, self._pace))
        self._slow_down(now_s, max(self._measured.accepted, rate * (1 - NEARLY_ALL)))

    def _slow_down(self, now_s: float, accepted: float) -> None:
        self._pace = max(FLOOR, BELOW * accepted)
        self._enter(Phase.LOW, now_s)

    def _test(self, now_s: float, *, refused: bool) -> None:
        """Weigh one answer: is the share that of before, or has it fallen?"""
        if not self._is_settled:
            # What was asked before the change is still inside for as long as this answer took.
            self._enter(Phase.LOW, now_s)
            self._is_settled = True
            return
        share = min(self._measured.share, NEARLY_ALL)
        fallen = share / FALLEN
        self._likelihood += math.log(share / fallen) if refused else math.log((1 - share) / (1 - fallen))
        if self._likelihood <= -CERTAIN:
            self._found(now_s)
        elif self._likelihood >= CERTAIN:
            self._compare_again(now_s, self._refusals / self._answers)

    def _compare_again(self, now_s: float, share: float) -> None:
        """The refusals went on: as before, or less (then the pace is still too high), or nothing was accepted yet."""
        before = self._measured
        if self._pace > FLOOR and (before.share >= NEARLY_ALL or share < BELOW * before.share):
            self._measured = Measured(before.pace, share, self._pace)
            self._slow_down(now_s, self._pace * max(1 - share, 1 - NEARLY_ALL))
        else:
            self._ordinary, self._judged = self._measured.share, self._asked
            self._pace, self._step = self._measured.pace, math.inf
            self._enter(Phase.STEADY, now_s)

    def _found(self, now_s: float) -> None:
        """The refusals stopped. The further apart what was asked and what was accepted, the less is known of the limit."""
        pace, share, _ = self._measured
        if share >= NEARLY_ALL:
            self._step = math.inf
        else:
            self._mark = pace
            self._pace = max(FLOOR, CUT * self._measured.accepted)
            self._quicken(CAREFUL * (pace / self._measured.accepted) ** 3)
        self._ordinary = min(self._ordinary, self._refusals / self._answers)
        self._enter(Phase.STEADY, now_s)
