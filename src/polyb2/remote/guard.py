"""The guard of one side: everything that a request passes on its way out and back, put together once.

In this order: the rate limiter (``limiter.py``), a slot (limits concurrent control calls), the fence of its claim (a worker
without its lease starts nothing), the deadline or the stall watch, the translation of its errors; retries surround it all. A
call that backs off holds no slot, and waiting for the rate limiter is no stall.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Self, TypeVar

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.retry import RequestPolicy
from polyb2.failpoints import failpoint
from polyb2.meters import Meters
from polyb2.remote.classify import FOREIGN, translate
from polyb2.remote.limiter import Limiter, Turn
from polyb2.remote.retries import Tries
from polyb2.remote.silence import Silence
from polyb2.remote.traffic import StallWatch, Traffic

T = TypeVar("T")
CONTROL_SLOTS = 16
"""S3 control calls of one side that may be under way at once."""
Fence = Callable[[], None]
"""Called before each request; raises if the claim, or its lease, no longer holds."""


class Guard:
    """The way to one side: :meth:`call` and :meth:`once` for control calls, :meth:`body` for requests with a body."""

    def __init__(
        self,
        side: Side,
        policy: RequestPolicy,
        per_second: float,
        stall_timeout_s: float,
        meters: Meters | None = None,
        traffic: Traffic | None = None,
        slots: int = CONTROL_SLOTS,
    ) -> None:
        """``stall_timeout_s`` is the stall time-out; ``meters`` and ``traffic`` are those of both sides."""
        self.side = side
        self.policy = policy
        self.meters = meters or Meters()
        self._limiter = Limiter(per_second)
        self._slots = asyncio.Semaphore(slots)
        self._traffic = traffic or Traffic()
        self._fence: Fence = _unfenced
        self._silence = Silence(side, stall_timeout_s, policy.silences, lambda: self._traffic.passed_bytes)

    def fenced(self, fence: Fence) -> Self:
        """The same guard, with the same limiter and slots, for requests that may start only while ``fence`` permits."""
        fenced = copy.copy(self)
        fenced._fence = fence  # noqa: SLF001 - its own class
        return fenced

    @property
    def per_second(self) -> float | None:
        """The present limit of requests a second to the side; None if nothing limits them."""
        return self._limiter.per_second

    def use_share(self, share: float) -> None:
        """Keep to a share, 0 to 1, of the requests a second that the settings allow all workers together."""
        self._limiter.use_share(share)

    @asynccontextmanager
    async def body(
        self, operation: str, *, onward: Guard | None = None, within: StallWatch | None = None
    ) -> AsyncIterator[StallWatch]:
        """Make one request that brings or takes a body: rate-limited, fenced, watched for stalls, its errors translated.

        Args:
            operation: its name.
            onward: the side that the body is sent to.
            within: the watch of the request that brings the body; it keeps watching.
        """
        if within is None:
            turn = await self._limiter.wait()
            # The turn at the other side is waited for now, so that the body need not wait for it.
            onward_turn = await onward.turn() if onward is not None else None
            with self._request(operation, turn) as stall_timeout_s:
                async with self._traffic.watch(stall_timeout_s, self.side) as watch:
                    watch.turn, watch.answered = onward_turn, partial(self._accepted, turn)
                    yield watch
            return
        waited, within.turn = within.turn, None
        if waited is None or waited.limiter is not self._limiter:
            with within.paused():
                waited = await self._limiter.wait()
        with self._request(operation, waited):
            yield within

    async def turn(self) -> Turn:
        """Wait until one more request may be sent."""
        return await self._limiter.wait()

    @contextmanager
    def _request(self, operation: str, turn: Turn) -> Iterator[float]:
        """The steps of every request after its turn: fence and error translation; yields the time that it may be silent."""
        self._fence()
        stall_timeout_s = self._silence.stall_timeout_s(operation)
        failpoint(f"{self.side}.{operation}.before")
        try:
            yield stall_timeout_s
        except FOREIGN as error:
            # The foreign error is not chained: its text may hold a signed URL.
            translated = self._silence.explained(operation, translate(self.side, operation, error))
            self._failed(operation, turn, stall_timeout_s, translated)
            raise translated from None
        except RemoteError as error:
            if error.side is self.side:
                self._failed(operation, turn, stall_timeout_s, error)
            raise
        self._accepted(turn)
        failpoint(f"{self.side}.{operation}.after")

    def _accepted(self, turn: Turn) -> None:
        """Note that the side accepts a request; for a long answer, as soon as its head says so."""
        turn.accepted()
        self._silence.answered()

    def _failed(self, operation: str, turn: Turn, stall_timeout_s: float, error: RemoteError) -> None:
        turn.failed(error)
        self._silence.failed(operation, error, stall_timeout_s)

    async def once(self, operation: str, request: Callable[[], Awaitable[T]]) -> T:
        """Make one control call without retries: answered within the stall time-out, or an error (``stalled``)."""
        turn = await self._limiter.wait()
        async with self._slots:
            with self._request(operation, turn) as stall_timeout_s:
                try:
                    async with asyncio.timeout(stall_timeout_s):
                        return await self.meters.answer(self.side, operation, request())
                except TimeoutError:
                    words = f"{operation} was not answered within {stall_timeout_s:.3g} s"
                    raise RemoteError(self.side, Kind.STALLED, words) from None

    async def call(self, operation: str, request: Callable[[], Awaitable[T]]) -> T:
        """One control call, retried by the policy.

        Raises:
            RemoteError: the tries are used up, or the kind of error is not retried.
        """
        return await self.tried(lambda: self.once(operation, request))

    async def tried(self, once: Callable[[], Awaitable[T]]) -> T:
        """Run ``once`` until it succeeds or the policy gives up (RemoteError)."""
        tries = Tries(self.policy, self.meters, self._silence.is_lasting)
        while True:
            try:
                return await once()
            except RemoteError as error:
                delay_s = tries.delay_s(error)
            await asyncio.sleep(delay_s)


def _unfenced() -> None:
    """The fence of requests that belong to no claim: discovery, and commands that only read."""
