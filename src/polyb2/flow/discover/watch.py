"""The discovery coroutine of the long-running container: the last days at every interval, everything once a day.

The daily full listing finds older files that were replaced, and files that came late or while no watch ran: a file
dated since the first day that a watch of the dataset covered is mirrored, whenever it comes. A watch never queues a
date outside its selection, nor more than ``POLYB2_MAX_PLAN_BYTES``: such a plan is held and reported until it is
confirmed. At 11:00 US Eastern, when the files of the day before should be there, it discovers whatever the interval,
and more often while a file is late. Late files and failed discoveries are reported once; a failed discovery is
retried soon, and the workers go on meanwhile. The ledger keeps the time of the last full listing, so that a restart
continues the schedule.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, timedelta

from polyb2.core.calendar import due, next_due
from polyb2.core.coverage import Day
from polyb2.core.errors import LedgerError, RemoteError, UsageError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.selection import LOOKBACK_DAYS, Mode, Selection, daily
from polyb2.core.units import format_duration
from polyb2.flow.discover.consent import Consent, discover, discover_unasked
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.discover.findings import Report
from polyb2.flow.inspect import completeness
from polyb2.flow.mirror import Mirror
from polyb2.ledger.rows import FULL_LISTING, FULL_LISTING_DAY

log = logging.getLogger(__name__)
HOPE = timedelta(hours=3)
"""A file that is late is expected any minute for this long."""


class Watch:
    """Discovers on schedule.

    Attributes:
        problem: the reason why the last discovery failed or was held, in words; None if all is well.
        late: the days that were late at the last check.
    """

    def __init__(
        self,
        mirror: Mirror,
        datasets: tuple[str, ...],
        consent: Consent,
        interval_s: float,
        on_queued: Callable[[], None],
        on_cycle: Callable[[], None] = lambda: None,
    ) -> None:
        self.problem: str | None = None
        self.late: list[Day] = []
        self._mirror = mirror
        self._timing = mirror.timing
        self._datasets = datasets
        self._consent = consent
        self._interval_s = interval_s
        self._on_queued = on_queued
        self._on_cycle = on_cycle
        self._lookback_days = LOOKBACK_DAYS
        self._told_late: set[tuple[str, date]] = set()

    async def run(self, first: Selection | None) -> None:
        """Discover ``first`` if there is one, then the last days again and again, until the process is asked to stop.

        The last days are seven, or as many as a ``first`` of the mode ``daily`` looks back.

        Raises:
            UsageError: the selection of ``first`` is unusable.
        """
        if first is not None and first.mode is Mode.DAILY:
            (span,) = first.ranges
            self._lookback_days = (span.last - span.first).days
        while not self._mirror.draining.is_set():
            try:
                if first is not None:
                    report = await discover(Discovery(self._mirror, first), self._consent, self._on_queued)
                    _log("discovered", report)
                    first = None
                await self._look_around()
            except (RemoteError, UsageError, LedgerError) as error:
                if first is not None and isinstance(error, UsageError):
                    raise
                pause_s = self._fail(error, min(self._interval_s, self._timing.discover_again_s))
            else:
                pause_s = self._pause_s()
            self._on_cycle()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._mirror.draining.wait()

    def _fail(self, error: Exception, pause_s: float) -> float:
        """Log a problem once; return the pause after it."""
        problem = str(error)
        if problem != self.problem:
            extra = log_fields(LogEvent.DISCOVERY_FAILED, seconds=pause_s)
            log.error("discovery failed, the next one is in %s: %s", format_duration(pause_s), problem, extra=extra)
        self.problem = problem
        return pause_s

    def _pause_s(self) -> float:
        """Seconds until the next discovery: the interval, at most until the next usual hour; less while a file is late."""
        now = self._mirror.ledger.clock.utc()
        pause_s = min(self._interval_s, (next_due(now) - now).total_seconds())
        if any(now - due(day.date) < HOPE for day in self.late):
            pause_s = min(pause_s, self._timing.late_again_s)
        return max(pause_s, min(self._interval_s, self._timing.pause_min_s))

    async def _look_around(self) -> None:
        ledger = self._mirror.ledger
        lately = daily(ledger.clock.today(), self._lookback_days, self._datasets)
        report = await discover_unasked(Discovery(self._mirror, lately), self._consent, self._on_queued)
        _log("discovered", report)
        datasets = list(report.datasets)
        await ledger.follow(datasets, lately.ranges[0].first)
        await self._note_late(datasets)
        await self._look_at_everything()
        await self._note_held()

    async def _note_held(self) -> None:
        """Log a plan that waits for confirmation, once; it is a problem for as long as it waits."""
        held = await self._mirror.ledger.held()
        problem = held.words if held.files else None
        if problem is not None and problem != self.problem:
            log.error("%s", problem, extra=log_fields(LogEvent.DISCOVERY_HELD, files=held.files, bytes=held.bytes))
        self.problem = problem

    async def _note_late(self, datasets: Sequence[str]) -> None:
        """Log each late day once, and once when it is no longer late."""
        self.late = await completeness.late(self._mirror.ledger, datasets)
        late = {(day.dataset, day.date) for day in self.late}
        for dataset, day in sorted(late - self._told_late):
            extra = log_fields(LogEvent.FILE_LATE, dataset=dataset, date=day)
            words = "late: %s of %s is not listed, and should have been by %s"
            log.warning(words, dataset, day, due(day).isoformat(), extra=extra)
        for dataset, day in sorted(self._told_late - late):
            log.info("no longer late: %s of %s is listed now, or counts as missing", dataset, day)
        self._told_late = late

    async def _look_at_everything(self) -> None:
        ledger = self._mirror.ledger
        last, last_day = await ledger.fact(FULL_LISTING), await ledger.fact(FULL_LISTING_DAY)
        now_ms, today = ledger.clock.wall_ms(), ledger.clock.today().isoformat()
        if last is not None and 0 <= now_ms - int(last) < self._timing.full_listing_s * 1000 and last_day == today:
            return
        everything = Selection(Mode.EVERYTHING, self._datasets)
        full = Discovery(self._mirror, everything, only_known=True, since=await ledger.followed())
        _log("listed everything", await discover_unasked(full, self._consent, self._on_queued))
        await ledger.remember(FULL_LISTING, str(now_ms))
        await ledger.remember(FULL_LISTING_DAY, today)


def _log(what: str, report: Report) -> None:
    names = ("listed", "queued", "revised", "adopted", "bytes_queued")
    extra = log_fields(LogEvent.DISCOVERY_DONE, **{name: report.total(name) for name in names})
    found = ", ".join(f"{report.total(name)} {name}" for name in ("listed", "queued", "revised"))
    log.info("%s: %s", what, found, extra=extra)
