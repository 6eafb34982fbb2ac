"""Turns at one side: requests wait here for the pace that ``core/rate_limit.py`` decides.

Invariants: requests start in the order in which they asked; a cancelled waiter does not consume a turn; a pace that changes
is followed at once, also by the request that waits already.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.rate_limit import TOGETHER_S, RateLimiter, Ticket

_BUSY_CODES = {"ServiceUnavailable", "503"}


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
    """Turns at one side, evenly spaced: as many a second as are configured (0: any), fewer where the side has a limit."""

    def __init__(self, per_second: float) -> None:
        self._rates = RateLimiter(per_second)
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._due_s = -math.inf
        """When the turn comes that a request waits for; in the past where none waits."""

    @property
    def per_second(self) -> float | None:
        """Requests a second that the side is asked at most, for people; None where no limit is known."""
        return self._rates.limit

    async def wait(self) -> Turn:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        if self._rates.wait_s(loop.time()) or self._turn.locked():
            async with self._turn:
                while delay_s := self._rates.wait_s(loop.time()):
                    self._due_s = loop.time() + delay_s
                    self._changed.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(delay_s):
                            await self._changed.wait()
                return Turn(self, self._rates.start(loop.time()))
        return Turn(self, self._rates.start(loop.time()))

    def judge(self, ticket: Ticket, *, refused: bool) -> None:
        """Count the answer to a request."""
        now_s = asyncio.get_running_loop().time()
        self._rates.answered(now_s, ticket, refused=refused)
        if self._turn.locked() and now_s + self._rates.wait_s(now_s) < self._due_s - TOGETHER_S:
            self._changed.set()
