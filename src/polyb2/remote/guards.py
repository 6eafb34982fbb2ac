"""What stands between the engine and each side, put together in one place: ``Guard``.

A request passes, in this order: the rate limiter (``limiter.py``), a slot (control calls at once), the fence of its claim (a
worker without its lease starts nothing), the deadline or the stall watch, the translation of its errors; retries are around
all of it. A call that backs off holds no slot, and waiting for the limiter is no stall.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TypeVar

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.logevents import LogEvent, told
from polyb2.core.retry import RequestPolicy
from polyb2.core.schedule import NO_LIMIT, Schedule
from polyb2.core.units import format_duration
from polyb2.failpoints import failpoint
from polyb2.meters import Meters
from polyb2.remote.limiter import Limiter
from polyb2.remote.silence import Silence
from polyb2.remote.traffic import StallWatch, Traffic
from polyb2.remote.translate import FOREIGN, translate

log = logging.getLogger(__name__)
T = TypeVar("T")
WAIT_TOLD_S = 15.0
"""A request that is tried for longer is worth a line."""
WAIT_FORGOTTEN_S = 60.0
"""After so long without any such wait, the next one is told again."""
CONTROL_SLOTS = 16
"""S3 control calls of one side that may be under way at once."""

_permit: ContextVar[Callable[[], None] | None] = ContextVar("permit", default=None)


@contextmanager
def fenced_by(check: Callable[[], None]) -> Iterator[None]:
    """Every request of this task and its children first calls ``check``, which raises when the lease is lost."""
    token = _permit.set(check)
    try:
        yield
    finally:
        _permit.reset(token)


class Bandwidth:
    """Bytes per second over all streams, by the clock; 0 is no limit. A burst of a tenth of a second is let through.

    A stream that waits already waits to the end of what it was told; the next chunk follows the limit then in force.
    """

    BURST_S = 0.1
    LOOK_EVERY_S = 1.0

    def __init__(self, schedule: Schedule = NO_LIMIT, minute: Callable[[], int] = lambda: 0) -> None:
        """``minute`` reads the clock: the minute of the day in the schedule's time zone, 0 to 1439."""
        self._schedule = schedule
        self._minute = minute
        self._free_s = 0.0
        self._look_s = 0.0
        self.per_second = schedule.at(minute())

    @property
    def words(self) -> str:
        """The limit in force, for people; empty where there is none."""
        return self._schedule.words(self._minute())

    def delay_s(self, count: int) -> float:
        """Book ``count`` bytes; the seconds that their stream has to wait."""
        now_s = asyncio.get_running_loop().time() if self._schedule.windows or self.per_second else 0.0
        if self._schedule.windows and now_s >= self._look_s:
            self._look(now_s)
        if not self.per_second:
            return 0.0
        self._free_s = max(self._free_s, now_s - self.BURST_S) + count / self.per_second
        return max(0.0, self._free_s - now_s)

    def _look(self, now_s: float) -> None:
        """Follow the clock; what is booked and not yet sent is paid at the new rate."""
        self._look_s = now_s + self.LOOK_EVERY_S
        limit = self._schedule.at(self._minute())
        if limit == self.per_second:
            return
        booked = max(0.0, self._free_s - now_s) * self.per_second
        self._free_s = now_s + (booked / limit if limit else 0.0)
        self.per_second = limit
        log.info("%s", self.words, extra=told(LogEvent.BANDWIDTH_CHANGED, bytes_per_s=limit))


class Tries:
    """The tries of one request: asks the policy, waits, or lets the error through when they are used up."""

    def __init__(
        self, policy: RequestPolicy, meters: Meters, is_vain: Callable[[RemoteError], bool] = lambda _error: False
    ) -> None:
        """``is_vain`` says of an error that no further try is worth it, whatever the policy allows."""
        self._policy = policy
        self._meters = meters
        self._is_vain = is_vain
        self._began_s: float | None = None
        self.failures = 0

    def delay_s(self, error: RemoteError) -> float:
        """Seconds to wait before the next try.

        Raises:
            RemoteError: ``error``, when there is no next try.
        """
        self.failures += 1
        self._meters.failed(error)
        delay_s = self._policy.delay_s(self.failures, error, random.random())  # noqa: S311 - jitter
        if delay_s is None or self._is_vain(error):
            raise error
        self._tell_wait(error, delay_s)
        self._meters.retries[error.side] += 1
        extra = told(
            LogEvent.REQUEST_RETRIED, attempt=self.failures, seconds=delay_s, side=error.side, reason=error.kind
        )
        log.debug("try %d failed, next in %.1f s: %s", self.failures, delay_s, error, extra=extra)
        return delay_s

    def _tell_wait(self, error: RemoteError, delay_s: float) -> None:
        """Say once what is waited for, where that takes long; requests that wait side by side or in turn are one wait."""
        now_s = asyncio.get_running_loop().time()
        if self._began_s is None:
            self._began_s = now_s
        if now_s + delay_s - self._began_s < WAIT_TOLD_S:
            return
        told_until_s = self._meters.waited_for.get(error.side, 0.0)
        self._meters.waited_for[error.side] = max(told_until_s, now_s + delay_s + WAIT_FORGOTTEN_S)
        if now_s < told_until_s:
            return
        extra = told(LogEvent.REQUEST_RETRIED, seconds=delay_s, side=error.side, reason=error.kind)
        words = "waiting for the %s, next try in %s: %s"
        log.warning(words, error.side, format_duration(delay_s), error.found, extra=extra)


class Guard:
    """The way to one side: :meth:`call` and :meth:`once` for control calls, :meth:`body` for what carries bytes."""

    def __init__(
        self,
        side: Side,
        policy: RequestPolicy,
        per_second: float,
        patience_s: float,
        slots: int = CONTROL_SLOTS,
        traffic: Traffic | None = None,
    ) -> None:
        """``patience_s`` is the stall time-out; ``traffic`` knows the bodies of both sides."""
        self.side = side
        self.policy = policy
        self.meters = Meters()
        self._limiter = Limiter(per_second)
        self._slots = asyncio.Semaphore(slots)
        self._traffic = traffic or Traffic()
        self._silence = Silence(side, patience_s, policy.silences, lambda: self._traffic.passed_bytes)

    @property
    def per_second(self) -> float | None:
        """Requests a second that the side is asked at most now; None where nothing limits them."""
        return self._limiter.per_second

    async def pace(self) -> None:
        """Wait until one more request may be sent."""
        await self._limiter.wait()

    def accepted(self) -> None:
        """Note that the side takes the task's request; of a long answer, as soon as its head says so."""
        self._limiter.accepted()
        self._silence.answered()

    @asynccontextmanager
    async def body(
        self, operation: str, *, onward: Guard | None = None, within: StallWatch | None = None
    ) -> AsyncIterator[StallWatch]:
        """One request that brings or takes a body: paced, fenced, watched for stalls, its errors translated.

        Args:
            operation: its name.
            onward: the side that the body is sent to; its turn is waited for now, so that the body need not wait for it.
            within: the watch of the request that brings the body; it goes on watching.
        """
        if within is None:
            await self.pace()
            if onward is not None:
                await onward.pace()
            with self._request(operation) as patience_s:
                async with self._traffic.watch(patience_s, self.side) as watch:
                    watch.turn = onward
                    yield watch
            return
        if within.turn is not self:
            with within.paused():
                await self.pace()
        within.turn = None
        with self._request(operation):
            yield within

    @contextmanager
    def _request(self, operation: str) -> Iterator[float]:
        """What every request passes once it is its turn: fenced, its errors translated; how long it may be silent."""
        check = _permit.get()
        if check is not None:
            check()
        patience_s = self._silence.patience_s(operation)
        failpoint(f"{self.side}.{operation}.before")
        try:
            yield patience_s
        except FOREIGN as error:
            # The foreign error is not kept: its text may hold a signed URL.
            translated = self._silence.explained(operation, translate(self.side, operation, error))
            self._note(operation, patience_s, translated)
            raise translated from None
        except RemoteError as error:
            if error.side is self.side:
                self._note(operation, patience_s, error)
            raise
        self.accepted()
        failpoint(f"{self.side}.{operation}.after")

    def _note(self, operation: str, patience_s: float, error: RemoteError) -> None:
        self._limiter.failed(error)
        self._silence.failed(operation, error, patience_s)

    async def once(self, operation: str, request: Callable[[], Awaitable[T]]) -> T:
        """One control call that is not retried: answered within the stall time-out, or an error (``stalled``)."""
        await self.pace()
        async with self._slots:
            with self._request(operation) as patience_s:
                try:
                    async with asyncio.timeout(patience_s):
                        return await self.meters.answer(self.side, operation, request())
                except TimeoutError:
                    words = f"{operation} was not answered within {patience_s:.3g} s"
                    raise RemoteError(self.side, Kind.STALLED, words) from None

    async def call(self, operation: str, request: Callable[[], Awaitable[T]]) -> T:
        """One control call, retried by the policy.

        Raises:
            RemoteError: the tries are used up, or the kind of error is not retried.
        """
        return await self.tried(lambda: self.once(operation, request))

    async def tried(self, once: Callable[[], Awaitable[T]]) -> T:
        """Run ``once`` until it succeeds or the policy says stop (RemoteError)."""
        tries = Tries(self.policy, self.meters, self._silence.is_lasting)
        while True:
            try:
                return await once()
            except RemoteError as error:
                delay_s = tries.delay_s(error)
            await asyncio.sleep(delay_s)
