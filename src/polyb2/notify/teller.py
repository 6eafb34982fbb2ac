"""What a run tells its owner: while it goes on, after each cycle of the watch, and at its end.

It looks on from a task of its own: whatever goes wrong here is a line in the log, and nothing waits for it but the very end
of the process, and that not for long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from polyb2.config import Settings
from polyb2.core.errors import Kind, Polyb2Error, Scope
from polyb2.core.logevents import LogEvent, told
from polyb2.core.news import News
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.flow.run.pool import Outcome
from polyb2.ledger.ledger import Ledger
from polyb2.notify import reporter
from polyb2.notify.notifier import Notifier
from polyb2.notify.ping import Pinger

log = logging.getLogger(__name__)
LOOK_EVERY_S = 5.0
FINAL_S = 27.0
"""For how long the end of the process waits for its last message and ping."""
STOPPING_S = 3.0
"""And where it was asked to stop: within five seconds of the drain it must be gone."""


@dataclass(slots=True)
class Scene:
    """What there is to look at.

    Attributes:
        settings: of the process.
        ledger: what it knows.
        breaker: the gate.
        outcome: what the pool did so far.
        stays_up: it is a watch, whose end is nothing to tell of.
        problems: what stands in the way now, in words.
        signal: the signal that ended it, once there is one.
        revised: keys that were found replaced since the last message.
    """

    settings: Settings
    ledger: Ledger
    breaker: CircuitBreaker
    outcome: Outcome
    stays_up: bool
    problems: Callable[[], list[str]]
    signal: Callable[[], int | None]
    revised: list[str] = field(default_factory=list)


class Teller:
    """Looks at a scene and tells of it."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._notifier = Notifier(scene.settings, scene.ledger)
        url = scene.settings.notify.ping_url
        self._pinger = Pinger(url.get_secret_value()) if url is not None else None
        self._wake = asyncio.Event()
        self._cycles = 0
        self._unfinished: set[str] = set()
        self._paused_s: float | None = None
        self._may_stand = True
        """Something may have been told, by this process or one before it, that is over once bytes go through."""

    @property
    def is_on(self) -> bool:
        return self._notifier.is_on or self._pinger is not None

    def cycle(self) -> None:
        """A cycle of the watch has ended, well or not."""
        self._cycles += 1
        self._wake.set()

    async def look_on(self) -> None:
        """Until cancelled: tell at once what cannot wait, and the rest after each cycle."""
        seen = 0
        await self._guarded(self._notifier.check())
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            self._wake.clear()
            ended, seen = self._cycles > seen, self._cycles
            await self._guarded(self._look(ended))

    async def end(self, error: BaseException | None) -> None:
        """Tell how it ended. What nobody waits for any more, after a second signal, is not told."""
        patience_s = FINAL_S if self._scene.signal() is None else STOPPING_S
        try:
            async with asyncio.timeout(patience_s):
                await self._guarded(self._end(error))
        except TimeoutError:
            log.warning("no notification within %.0f s", patience_s, extra=told(LogEvent.NOTIFY_FAILED))

    async def _look(self, ended: bool) -> None:
        news = self._standing()
        if ended:
            news += await self._found()
        if news or ended:
            await self._notifier.tell(news)
        if self._may_stand and self._scene.breaker.error is None and self._scene.outcome.bytes:
            self._may_stand = False
            await self._notifier.forget("stopped ")
        if ended and self._pinger is not None:
            problems = [words for words in self._scene.problems() if words != "draining"]
            await self._pinger.ping("; ".join(problems) or None)

    async def _end(self, error: BaseException | None) -> None:
        scene = self._scene
        failure = str(error) or type(error).__name__ if error is not None else None
        news = await self._found()
        if failure is not None:
            news.append(reporter.failed(failure))
        elif not scene.stays_up:
            news += reporter.ended(scene.outcome)
        if failure is None and scene.outcome.bytes:
            await self._notifier.forget("stopped ")
            await self._notifier.forget("failed ")
        await self._notifier.tell(news)
        interrupted = scene.signal() is not None
        if self._pinger is not None and (failure is not None or not (interrupted or scene.stays_up)):
            await self._pinger.ping(failure or reporter.shortfall(scene.outcome))

    async def _found(self) -> list[News]:
        """What the last cycle, or the whole run, brought."""
        scene = self._scene
        if not self._notifier.is_on:
            return []
        revised, scene.revised[:] = [*scene.revised], []
        news = [reporter.revised(key) for key in revised]
        fresh = {key: event for key, event in scene.outcome.unfinished.items() if key not in self._unfinished}
        self._unfinished |= set(fresh)
        news += [reporter.unfinished(key, event) for key, event in fresh.items()]
        return news + await reporter.of_days(scene.ledger, scene.settings.discovery.datasets)

    def _standing(self) -> list[News]:
        """A side that lets nothing through: keys and caps at once, the rest when it lasts."""
        error, now_s = self._scene.breaker.error, time.monotonic()
        if error is None:
            self._paused_s = None
            return []
        self._paused_s = self._paused_s or now_s
        lasts = now_s - self._paused_s >= self._scene.settings.run.give_up_s
        if error.kind is Kind.CAP_EXCEEDED or error.handling.scope is Scope.ACCOUNT or lasts:
            self._may_stand = True
            return [reporter.stopped(error)]
        return []

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - telling never fails what is told of
            words = str(error) if isinstance(error, Polyb2Error) else type(error).__name__
            log.warning("no notification: %s", words, extra=told(LogEvent.NOTIFY_FAILED))


@asynccontextmanager
async def telling(scene: Scene) -> AsyncIterator[Teller]:
    """Tell of a run while the block lasts, in the log and to the owner."""
    began_s = time.monotonic()
    teller = Teller(scene)
    onlooker = asyncio.create_task(teller.look_on(), name="teller") if teller.is_on else None
    error: BaseException | None = None
    try:
        yield teller
    except Exception as caught:
        error = caught
        raise
    finally:
        _log_end(scene, time.monotonic() - began_s)
        if onlooker is not None:
            onlooker.cancel()
            await asyncio.gather(onlooker, return_exceptions=True)
            await teller.end(error)


def _log_end(scene: Scene, seconds: float) -> None:
    outcome = scene.outcome
    ended = told(
        LogEvent.RUN_ENDED,
        completed=outcome.completed,
        bytes=outcome.bytes,
        seconds=seconds,
        unfinished=len(outcome.unfinished),
        signal=scene.signal(),
    )
    log.info("ended: %d files completed, %d not", outcome.completed, len(outcome.unfinished), extra=ended)
