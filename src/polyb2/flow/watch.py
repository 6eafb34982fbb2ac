"""The discovery coroutine of the long-running container: look back some days every interval, at everything once a day.

The daily full listing finds older files that were replaced; it never queues a date that nobody chose. A discovery that
fails is told once and tried again soon: the workers go on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from polyb2.core.errors import LedgerError, RemoteError, UsageError
from polyb2.core.logevents import LogEvent, told
from polyb2.core.selection import Mode, Selection, daily
from polyb2.core.units import format_duration
from polyb2.flow.consent import Consent, discover
from polyb2.flow.discover import Discovery
from polyb2.flow.mirror import Mirror
from polyb2.flow.report import Report
from polyb2.ledger.binding import FULL_LISTING

log = logging.getLogger(__name__)
FULL_EVERY_MS = 24 * 3600 * 1000
LOOKBACK_DAYS = 7
AGAIN_S = 60.0
"""After a discovery that failed, the next one is not later than this."""


class Watch:
    """Discovers on schedule; ``problem`` is what the last discovery failed with, ``on_cycle`` is called after each."""

    def __init__(
        self,
        mirror: Mirror,
        datasets: tuple[str, ...],
        consent: Consent,
        interval_s: float,
        on_queued: Callable[[], None],
    ) -> None:
        self.problem: str | None = None
        self.on_cycle: Callable[[], None] = lambda: None
        self._mirror = mirror
        self._datasets = datasets
        self._consent = consent
        # Nobody sits there for months to be asked.
        self._unasked = replace(consent, ask=None)
        self._interval_s = interval_s
        self._on_queued = on_queued

    async def run(self, first: Selection | None) -> None:
        """Discover ``first`` if there is one, then the last days again and again, until the process is asked to stop.

        Raises:
            UsageError: ``first`` cannot be meant so.
        """
        while not self._mirror.draining.is_set():
            pause_s = self._interval_s
            try:
                if first is not None:
                    await self._look(first, self._consent)
                    first = None
                lately = daily(self._mirror.ledger.clock.today(), LOOKBACK_DAYS, self._datasets)
                await self._look(lately, self._unasked)
                await self._look_at_everything()
            except (RemoteError, UsageError, LedgerError) as error:
                if first is not None and isinstance(error, UsageError):
                    raise
                pause_s = min(self._interval_s, AGAIN_S)
                self._tell(str(error), pause_s)
            else:
                self.problem = None
            self.on_cycle()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._mirror.draining.wait()

    def _tell(self, problem: str, pause_s: float) -> None:
        if problem != self.problem:
            extra = told(LogEvent.DISCOVERY_FAILED, seconds=pause_s)
            log.error("discovery failed, the next one is in %s: %s", format_duration(pause_s), problem, extra=extra)
        self.problem = problem

    async def _look(self, selection: Selection, consent: Consent) -> None:
        report = await discover(Discovery(self._mirror, selection), consent, self._on_queued)
        log.info(
            "discovered: %d listed, %d queued", report.total("listed"), report.total("queued"), extra=_told(report)
        )

    async def _look_at_everything(self) -> None:
        ledger = self._mirror.ledger
        last, now_ms = await ledger.fact(FULL_LISTING), ledger.clock.wall_ms()
        if last is not None and 0 <= now_ms - int(last) < FULL_EVERY_MS:
            return
        full = Discovery(self._mirror, Selection(Mode.EVERYTHING, self._datasets), only_known=True)
        report = await discover(full, self._unasked, self._on_queued)
        log.info("listed everything: %d older files were replaced", report.total("revised"), extra=_told(report))
        await ledger.remember(FULL_LISTING, str(now_ms))


def _told(report: Report) -> dict[str, object]:
    names = ("listed", "queued", "revised", "adopted", "bytes_queued")
    return told(LogEvent.DISCOVERY_DONE, **{name: report.total(name) for name in names})
