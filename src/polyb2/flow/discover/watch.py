"""The discovery coroutine of the long-running container: the last days at every interval, everything once a day.

The daily full listing finds older files that were replaced, and files that came late or while no watch ran: a file
dated since the first day that a watch of the dataset covered is mirrored, whenever it comes. A watch never queues a
date outside its selection, nor more than ``POLYB2_MAX_PLAN_BYTES``: such a plan is held and reported until it is
confirmed. At 11:00 US Eastern, when the files of the day before should be there, it discovers whatever the interval,
and more often while a file is late. Late files and failed discoveries are reported once; a failed discovery is
retried soon, and the workers go on meanwhile. The ledger keeps the time of the last full listing, so that a restart
continues the schedule.

Of several watches on one ledger with the same datasets one at a time makes the rounds (``flow/rounds.py``). The others
look on, claim what it queues, and each reports its own cycle when a round was made; another takes over when that one dies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, timedelta

from polyb2.core.calendar import due, next_due
from polyb2.core.coverage import Day
from polyb2.core.errors import LeaseLostError, LedgerError, RemoteError, UsageError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.scrub import scrub
from polyb2.core.selection import LOOKBACK_DAYS, Mode, Selection, daily
from polyb2.core.units import format_duration
from polyb2.flow.discover.consent import Consent, discover, discover_unasked
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.discover.findings import Report
from polyb2.flow.inspect import completeness
from polyb2.flow.mirror import Mirror
from polyb2.flow.rounds import Rounds, round_name
from polyb2.ledger.rows import RoundClaim

log = logging.getLogger(__name__)
HOPE = timedelta(hours=3)
"""A file that is late is expected any minute for this long."""


class Watch:
    """Discovers on schedule.

    Attributes:
        problem: the reason why the last discovery failed or was held, whoever made it, in words; None if all is well.
        late: the days that were late at the last check.
    """

    def __init__(
        self,
        mirror: Mirror,
        rounds: Rounds,
        datasets: tuple[str, ...],
        consent: Consent,
        interval_s: float,
        on_queued: Callable[[], None],
        on_cycle: Callable[[], None] = lambda: None,
    ) -> None:
        self.problem: str | None = None
        self.late: list[Day] = []
        self._mirror = mirror
        self._rounds = rounds
        self._timing = mirror.timing
        self._datasets = datasets
        self._consent = consent
        self._interval_s = interval_s
        self._on_queued = on_queued
        self._on_cycle = on_cycle
        self._lookback_days = LOOKBACK_DAYS
        self._told_late: set[tuple[str, date]] = set()
        self._seen_ms: int | None = None
        """The round of another worker that was seen last."""

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
                pause_s = await self._take_turn()
            except LeaseLostError:
                # Another worker may make the round by now: that is seen under the next lease.
                continue
            except (RemoteError, UsageError, LedgerError) as error:
                if first is not None and isinstance(error, UsageError):
                    raise
                pause_s = self._fail(error)
                self._on_cycle()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._mirror.draining.wait()

    async def _take_turn(self) -> float:
        """Make the round if it is this worker's turn, or notice that another one made it; seconds until the next look."""
        name = round_name("listing", str(self._lookback_days), *self._scope)
        look = await self._rounds.look(name, self._interval_s)
        if look.claim is not None:
            await self._make(look.claim)
            self._on_cycle()
            return 0.0
        if look.round.made_ms is not None:
            self.problem = look.round.problem
            if not look.round.is_ours and look.round.made_ms != self._seen_ms:
                self._seen_ms = look.round.made_ms
                self._on_cycle()
        return look.pause_s

    async def _make(self, claim: RoundClaim) -> None:
        """Make the round, and say when the next one is due."""
        try:
            await self._look_around(self._mirror.fenced(self._rounds.fence(claim)))
        except (RemoteError, UsageError) as error:
            pause_s = self._fail(error)
        else:
            pause_s = self._pause_s()
        await self._rounds.end(claim, pause_s, self.problem)

    @property
    def _scope(self) -> list[str]:
        return sorted(self._datasets)

    def _fail(self, error: Exception) -> float:
        """Log a problem once; return the pause after it."""
        pause_s = min(self._interval_s, self._timing.discover_again_s)
        problem = scrub(str(error))
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

    async def _look_around(self, mirror: Mirror) -> None:
        ledger = mirror.ledger
        lately = daily(ledger.clock.today(), self._lookback_days, self._datasets)
        report = await discover_unasked(Discovery(mirror, lately), self._consent, self._on_queued)
        _log("discovered", report)
        datasets = list(report.datasets)
        await ledger.follow(datasets, lately.ranges[0].first)
        await self._note_late(datasets)
        await self._look_at_everything(mirror)
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

    async def _look_at_everything(self, mirror: Mirror) -> None:
        """List all files of the datasets, once a day whoever does it and however often it is restarted."""
        day = mirror.ledger.clock.today().isoformat()
        name, every_s = round_name("full listing", *self._scope), self._timing.full_listing_s
        claim = (await self._rounds.look(name, every_s, day)).claim
        if claim is None:
            return
        everything = Selection(Mode.EVERYTHING, self._datasets)
        full = Discovery(mirror, everything, only_known=True, since=await mirror.ledger.followed())
        try:
            report = await discover_unasked(full, self._consent, self._on_queued)
        except (RemoteError, UsageError):
            # Due at once, for any worker that lists next.
            await self._rounds.end(claim, 0.0)
            raise
        _log("listed everything", report)
        await self._rounds.end(claim, every_s)


def _log(what: str, report: Report) -> None:
    names = ("listed", "queued", "revised", "adopted", "bytes_queued")
    extra = log_fields(LogEvent.DISCOVERY_DONE, **{name: report.total(name) for name in names})
    found = ", ".join(f"{report.total(name)} {name}" for name in ("listed", "queued", "revised"))
    log.info("%s: %s", what, found, extra=extra)
