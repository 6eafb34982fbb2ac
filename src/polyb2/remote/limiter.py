"""The waiting queue of one side: requests wait here for the pace that ``core/rate_limit.py`` decides.

Invariants: requests start in the order of their arrival; a cancelled waiter does not consume a turn; a changed pace
takes effect at once, also for the request that is waiting already.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.rate_limit import RateLimiter, Ticket

_BUSY_CODES = {"ServiceUnavailable", "503"}


class Limiter:
    """Evenly spaced turns at one side: as many a second as are configured (0: any), fewer where the side has a limit."""

    def __init__(self, per_second: float) -> None:
        self._rates = RateLimiter(per_second)
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._ticket: ContextVar[Ticket | None] = ContextVar("ticket", default=None)
        """The ticket of the task's last request, by which its answer is judged."""

    @property
    def per_second(self) -> float | None:
        """The present limit of requests a second, for people; None if no limit is known."""
        return self._rates.limit

    async def wait(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        if self._rates.wait_s(loop.time()) or self._turn.locked():
            async with self._turn:
                while delay_s := self._rates.wait_s(loop.time()):
                    self._changed.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(delay_s):
                            await self._changed.wait()
                self._ticket.set(self._rates.start(loop.time()))
        else:
            self._ticket.set(self._rates.start(loop.time()))

    def accepted(self) -> None:
        """Note that the side accepts the task's request."""
        self._judge(refused=False)

    def failed(self, error: RemoteError) -> None:
        """Note that the task's request failed: refused as one too many, failed for another reason, or not answered at all."""
        if error.kind is Kind.THROTTLED or error.code in _BUSY_CODES:
            self._judge(refused=True)
        elif error.code:
            self._judge(refused=False)
        else:
            self._ticket.set(None)

    def _judge(self, *, refused: bool) -> None:
        """Count the answer, once; a request that started without a turn has no ticket and gives no evidence."""
        ticket = self._ticket.get()
        if ticket is None:
            return
        self._ticket.set(None)
        before = self._rates.per_second
        self._rates.answered(asyncio.get_running_loop().time(), ticket, refused=refused)
        if self._rates.per_second != before:
            self._changed.set()
