"""The limits of requests and bytes: turns at one side, and the bandwidth of the process.

Requests wait here for the pace that ``core/rate_limit.py`` decides. Invariants: they start in the order of their arrival; a
cancelled waiter does not consume a turn; a changed pace takes effect at once, also for the request that is waiting already.
What the settings limit is the account's: a worker uses its share of it, which may be nothing for a while.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.rate_limit import TOGETHER_S, RateLimiter, Ticket
from polyb2.core.schedule import NO_LIMIT, Schedule

log = logging.getLogger(__name__)
_BUSY_CODES = {"ServiceUnavailable", "503"}
"""Errors of the kind SERVER_ERROR (core/classification.py) that may mean too many requests: the pace slows down too."""


class Turn:
    """The turn of one request at one side, by which its answer is judged: once, however often that is said."""

    __slots__ = ("_ticket", "limiter")

    def __init__(self, limiter: Limiter, ticket: Ticket) -> None:
        self.limiter = limiter
        self._ticket: Ticket | None = ticket

    def accepted(self) -> None:
        """The side takes the request."""
        self._judge(refused=False)

    def failed(self, error: RemoteError) -> None:
        """The request failed: refused as one too many, answered about something else, or not answered at all."""
        if error.kind is Kind.THROTTLED or error.code in _BUSY_CODES:
            self._judge(refused=True)
        elif error.code:
            self._judge(refused=False)
        else:
            self._ticket = None

    def _judge(self, *, refused: bool) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self.limiter.judge(ticket, refused=refused)


class Limiter:
    """Evenly spaced turns at one side: as many a second as are configured (0: any), fewer where the side has a limit."""

    def __init__(self, per_second: float) -> None:
        self._setting = per_second
        self._rates = RateLimiter(per_second)
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._due_s = -math.inf
        """When the turn comes that a request waits for; in the past where none waits."""

    @property
    def per_second(self) -> float | None:
        """The present limit of requests a second, for people; None if no limit is known."""
        return self._rates.limit

    def use_share(self, share: float) -> None:
        """Keep to a share, 0 to 1, of the setting from now on."""
        if self._setting:
            self._rates.ceiling = self._setting * share
            self._changed.set()

    async def wait(self) -> Turn:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        if self._rates.wait_s(loop.time()) or self._turn.locked():
            async with self._turn:
                while delay_s := self._rates.wait_s(loop.time()):
                    self._due_s = loop.time() + delay_s
                    self._changed.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(delay_s if delay_s < math.inf else None):
                            await self._changed.wait()
                return Turn(self, self._rates.start(loop.time()))
        return Turn(self, self._rates.start(loop.time()))

    def judge(self, ticket: Ticket, *, refused: bool) -> None:
        """Count the answer to a request."""
        now_s = asyncio.get_running_loop().time()
        self._rates.answered(now_s, ticket, refused=refused)
        if self._turn.locked() and now_s + self._rates.wait_s(now_s) < self._due_s - TOGETHER_S:
            self._changed.set()


class Bandwidth:
    """Bytes per second over all transfers, by the time of day; 0 for no limit. A burst of a tenth of a second is allowed.

    Bytes that are booked and not yet sent are paid for at the rate of the moment, whatever it was when they were booked.
    """

    BURST_S = 0.1
    LOOK_EVERY_S = 1.0

    def __init__(self, schedule: Schedule = NO_LIMIT, minute: Callable[[], int] = lambda: 0) -> None:
        """``minute`` reads the clock: the minute of the day in the schedule's time zone, 0 to 1439."""
        self._schedule = schedule
        self._minute = minute
        self._limit = schedule.at(minute())
        """The limit of all workers together now."""
        self._share = 1.0
        self._rate = float(self._limit) or math.inf
        self._owed_bytes = 0.0
        """What was booked beyond what the rate allowed, at the time of the last look; below zero for a burst."""
        self._owed_s = 0.0
        self._look_s = 0.0
        self._changed = asyncio.Event()

    @property
    def words(self) -> str:
        """The limit in force, for people; empty where there is none."""
        words = self._schedule.words(self._minute())
        return f"{words}, of it {self._share:.0%} here" if self._limit and self._share < 1 else words

    @property
    def per_second(self) -> float | None:
        """The bytes a second that this process may send; None if nothing limits them."""
        return self._rate if self._rate < math.inf else None

    def use_share(self, share: float) -> None:
        """Keep to a share, 0 to 1, of the limit from now on."""
        self._share = share
        self._follow(asyncio.get_running_loop().time())

    def book(self, count: int) -> float:
        """Book ``count`` bytes; the bytes, they and those booked before, that are to be paid for before they may be sent."""
        if self._rate == math.inf and not self._schedule.windows:
            return 0.0
        now_s = asyncio.get_running_loop().time()
        if self._schedule.windows and now_s >= self._look_s:
            self._look(now_s)
        if self._rate == math.inf:
            return 0.0
        self._pay(now_s)
        self._owed_bytes += count
        return max(0.0, self._owed_bytes)

    async def rest(self, owed_bytes: float) -> None:
        """Wait until what :meth:`book` told is paid for, at the rate of each moment."""
        loop = asyncio.get_running_loop()
        while owed_bytes > 0 and self._rate < math.inf:
            rate, began_s = self._rate, loop.time()
            self._changed.clear()
            try:
                async with asyncio.timeout(owed_bytes / rate if rate else None):
                    await self._changed.wait()
            except TimeoutError:
                return
            owed_bytes -= rate * (loop.time() - began_s)

    def _look(self, now_s: float) -> None:
        """Follow the clock."""
        self._look_s = now_s + self.LOOK_EVERY_S
        limit = self._schedule.at(self._minute())
        if limit != self._limit:
            self._limit = limit
            self._follow(now_s)
            log.info("%s", self.words, extra=log_fields(LogEvent.BANDWIDTH_CHANGED, bytes_per_s=limit))

    def _follow(self, now_s: float) -> None:
        """Go on at the rate of the limit and share of now."""
        rate = self._limit * self._share if self._limit else math.inf
        if rate != self._rate:
            self._pay(now_s)
            self._rate = rate
            self._changed.set()

    def _pay(self, now_s: float) -> None:
        """Take off what the rate allowed since the last look."""
        since_s, self._owed_s = now_s - self._owed_s, now_s
        if self._rate == math.inf:
            self._owed_bytes = 0.0
        else:
            self._owed_bytes = max(-self._rate * self.BURST_S, self._owed_bytes - self._rate * since_s)
