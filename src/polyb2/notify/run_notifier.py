"""Notifications about a run: while it goes on, after each cycle of the watch, and at its end.

They come from a task of their own: a failure here is a line in the log, and only the very end
of the process waits for it, for a limited time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from polyb2.config import Settings
from polyb2.core.errors import Kind, Scope
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.news import News
from polyb2.flow.mirror import DRAINING
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.flow.run.pool import Outcome
from polyb2.ledger.ledger import Ledger
from polyb2.notify import messages
from polyb2.notify.heartbeat import Heartbeat
from polyb2.notify.notifier import Notifier, harmless

log = logging.getLogger(__name__)
LOOK_EVERY_S = 5.0
FINAL_S = 27.0
"""The longest wait of the end of the process for its last message and ping."""
STOPPING_S = 3.0
"""The same if it was asked to stop: within five seconds of the drain it must be gone."""


@dataclass(slots=True)
class ObservedRun:
    """The objects that the notifier reads.

    Attributes:
        settings: those of the process.
        ledger: the ledger.
        breaker: the circuit breaker.
        outcome: the pool's result so far.
        stays_up: it is a watch, whose end is no news.
        problems: returns the present problems, in words.
        signal: returns the signal that ended it, once there is one.
        revised: keys that were replaced at the source since the last message, which empties it.
    """

    settings: Settings
    ledger: Ledger
    breaker: CircuitBreaker
    outcome: Outcome
    stays_up: bool
    problems: Callable[[], list[str]]
    signal: Callable[[], int | None]
    revised: list[str]


class RunNotifier:
    """Watches a run and sends news of it."""

    def __init__(self, run: ObservedRun) -> None:
        self._run = run
        self._notifier = Notifier(run.settings, run.ledger)
        url = run.settings.notify.ping_url
        self._heartbeat = Heartbeat(url.get_secret_value()) if url is not None else None
        self._wake = asyncio.Event()
        self._cycles = 0
        self._unfinished: set[str] = set()
        self._paused_s: float | None = None
        self._may_be_over = True
        """A sent message, by this process or an earlier one, may be over once bytes move again."""

    @property
    def is_on(self) -> bool:
        return self._notifier.is_on or self._heartbeat is not None

    def cycle(self) -> None:
        """Note that a cycle of the watch has ended, well or not."""
        self._cycles += 1
        self._wake.set()

    async def watch(self) -> None:
        """Run until cancelled: send urgent news at once, and the rest after each cycle."""
        seen = 0
        with harmless():
            await self._notifier.check()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()
            self._wake.clear()
            ended, seen = self._cycles > seen, self._cycles
            with harmless():
                await self._look(ended)

    async def end(self, error: BaseException | None) -> None:
        """Send the news of the end. A second signal ends the wait for it."""
        timeout_s = FINAL_S if self._run.signal() is None else STOPPING_S
        try:
            async with asyncio.timeout(timeout_s):
                with harmless():
                    await self._end(error)
        except TimeoutError:
            log.warning("no notification within %.0f s", timeout_s, extra=log_fields(LogEvent.NOTIFY_FAILED))

    async def _look(self, ended: bool) -> None:
        news = self._stopped()
        if ended:
            news += await self._found()
        if news or ended:
            await self._notifier.send(news)
        if self._may_be_over and self._run.breaker.error is None and self._run.outcome.bytes:
            self._may_be_over = False
            await self._notifier.forget("stopped ")
        if ended and self._heartbeat is not None:
            problems = [words for words in self._run.problems() if words != DRAINING]
            await self._heartbeat.ping("; ".join(problems) or None)

    async def _end(self, error: BaseException | None) -> None:
        run = self._run
        failure = str(error) or type(error).__name__ if error is not None else None
        news = await self._found()
        if failure is not None:
            news.append(messages.failed(failure))
        elif not run.stays_up:
            news += messages.ended(run.outcome)
        if failure is None and run.outcome.bytes:
            await self._notifier.forget("stopped ")
            await self._notifier.forget("failed ")
        await self._notifier.send(news)
        interrupted = run.signal() is not None
        if self._heartbeat is not None and (failure is not None or not (interrupted or run.stays_up)):
            await self._heartbeat.ping(failure or messages.shortfall(run.outcome))

    async def _found(self) -> list[News]:
        """The news of the last cycle, or of the whole run."""
        run = self._run
        if not self._notifier.is_on:
            return []
        revised, run.revised[:] = [*run.revised], []
        news = [messages.revised(key) for key in revised]
        fresh = {key: event for key, event in run.outcome.unfinished.items() if key not in self._unfinished}
        self._unfinished |= set(fresh)
        news += [messages.unfinished(key, event) for key, event in fresh.items()]
        return news + await messages.of_days(run.ledger, run.settings.discovery.datasets)

    def _stopped(self) -> list[News]:
        """The news of a side that is down: keys and caps at once, other causes when they last."""
        error, now_s = self._run.breaker.error, time.monotonic()
        if error is None:
            self._paused_s = None
            return []
        self._paused_s = self._paused_s or now_s
        lasts = now_s - self._paused_s >= self._run.settings.run.give_up_s
        if error.kind is Kind.CAP_EXCEEDED or error.handling.scope is Scope.ACCOUNT or lasts:
            self._may_be_over = True
            return [messages.stopped(error)]
        return []


@asynccontextmanager
async def notifying(run: ObservedRun, notifier: RunNotifier) -> AsyncIterator[None]:
    """Notify about a run while the block lasts, in the log and to the owner."""
    began_s = time.monotonic()
    watcher = asyncio.create_task(notifier.watch(), name="notifier") if notifier.is_on else None
    error: BaseException | None = None
    try:
        yield
    except Exception as caught:
        error = caught
        raise
    finally:
        _log_end(run, time.monotonic() - began_s)
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            await notifier.end(error)


def _log_end(run: ObservedRun, seconds: float) -> None:
    outcome = run.outcome
    ended = log_fields(
        LogEvent.RUN_ENDED,
        completed=outcome.completed,
        bytes=outcome.bytes,
        seconds=seconds,
        unfinished=len(outcome.unfinished),
        signal=run.signal(),
    )
    log.info("ended: %d files completed, %d not", outcome.completed, len(outcome.unfinished), extra=ended)
