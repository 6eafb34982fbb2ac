"""Snapshots of the engine and of the ledger, from which the page and the metrics are made.

Invariants: the ledger is read through a connection that cannot write, at most once in the TTL of each cache, however many
ask. Nothing else in ``web/`` reads the ledger.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from typing import Generic, TypeVar

from polyb2.core.coverage import Day, YearCalendar, lag_s
from polyb2.core.errors import LedgerError, UsageError
from polyb2.core.selection import DateRange
from polyb2.flow.inspect.completeness import RECENT_DAYS, days_of, resolve_known
from polyb2.flow.mirror import Mirror
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.rows import DISCOVERED, History
from polyb2.ledger.status_report import Failure, StatusReport
from polyb2.web.rate import POINTS_MAX, Rates

log = logging.getLogger(__name__)
T = TypeVar("T")
RECENT_FRESH_S = 30.0
CALENDAR_FRESH_S = 5.0
CALENDARS_MAX = 16
FAILURES_MAX = 200


class SingleFlight(Generic[T]):
    """Single-flight cache of one value with a TTL of ``fresh_s``: who asks while it is made waits for that."""

    def __init__(self, make: Callable[[], Awaitable[T]], fresh_s: float = 1.0) -> None:
        self._make = make
        self._fresh_s = fresh_s
        self._turn = asyncio.Lock()
        self._made: tuple[float, T] | None = None
        self._renewal: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The value, at most ``fresh_s`` old."""
        async with self._turn:
            now_s = asyncio.get_running_loop().time()
            if self._made is None or now_s - self._made[0] >= self._fresh_s:
                self._made = now_s, await self._make()
            return self._made[1]

    async def get_stale(self) -> T:
        """The value at once, however old, while a newer one is made for later calls; only the first call waits."""
        if self._made is None:
            return await self.get()
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self.get(), name="renewal")
            self._renewal.add_done_callback(_log_failure)
        return self._made[1]

    async def close(self) -> None:
        """Cancel a renewal that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError, LedgerError):
                await self._renewal


def _log_failure(task: asyncio.Task[T]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("not renewed: %s", error)


@dataclass(frozen=True, slots=True)
class Observed:
    """The run that is observed: its shared state, the selected datasets and patterns, and two questions to the engine.

    ``discovers``: does this process list the source? ``problems``: what keeps the run from its work; an empty list means
    ready.
    """

    mirror: Mirror
    datasets: tuple[str, ...]
    discovers: Callable[[], bool]
    problems: Callable[[], list[str]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The ledger at one moment; epoch milliseconds, 0 where the source was never listed."""

    now_ms: int
    report: StatusReport
    waiting_since_ms: Mapping[str, int]
    discovered_ms: int
    failures: Sequence[Failure]


@dataclass(frozen=True, slots=True)
class FileInFlight:
    """A file that is being sent; bytes, and seconds where this process knows its rate."""

    key: str
    size: int
    bytes_done: int
    attempt: int
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessState:
    """This process at one moment; bytes per second over the last minute, points as :meth:`Rates.points` gives them."""

    is_draining: bool
    problems: Sequence[str]
    in_flight: Sequence[FileInFlight]
    streams_busy: int
    streams_allowed: int
    rate: float | None
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Recent:
    """The last days of the selected datasets, and for how many seconds each has lacked the oldest day that was due."""

    days: Mapping[str, list[Day]] = field(default_factory=dict)
    lags_s: Mapping[str, float] = field(default_factory=dict)


class Snapshots:
    """Takes snapshots of what is observed, and keeps them while they are fresh; whatever reads may raise LedgerError.

    Attributes:
        observed: the run.
        rates: the samples of its rate.
        current: the ledger as it was at most a second ago.
        recent: the last days; stale, they are those of half a minute ago or of the request before this one.
        years: the years of each dataset that the ledger knows.
    """

    def __init__(self, observed: Observed) -> None:
        self.observed = observed
        self.rates = Rates(lambda: self.read_bytes().total())
        self._ledger: Ledger | None = None
        self._opening = asyncio.Lock()
        self.current = SingleFlight(self._read_current)
        self.recent = SingleFlight(self._read_recent, RECENT_FRESH_S)
        self.years = SingleFlight(self._read_years, CALENDAR_FRESH_S)
        self._calendars: dict[tuple[str, int], SingleFlight[YearCalendar]] = {}

    async def close(self) -> None:
        await self.recent.close()
        if self._ledger is not None:
            await self._ledger.close()

    async def calendar(self, dataset: str, year: int) -> YearCalendar:
        """The state of each day of a year, at most some seconds old."""
        if (dataset, year) not in self._calendars and len(self._calendars) >= CALENDARS_MAX:
            del self._calendars[next(iter(self._calendars))]
        make = partial(self._read_calendar, dataset, year)
        return await self._calendars.setdefault((dataset, year), SingleFlight(make, CALENDAR_FRESH_S)).get()

    async def history(self, key: str) -> History | None:
        """The record of a file, read at once; None for a key that the ledger does not have."""
        return await (await self._reader()).history(key)

    def today(self) -> date:
        """The day in US Eastern."""
        return self.observed.mirror.ledger.clock.today()

    def process(self) -> ProcessState:
        """This process now."""
        mirror = self.observed.mirror
        files = [
            FileInFlight(entry.key, entry.size, entry.bytes_done, entry.attempt, entry.left_s or None)
            for entry in mirror.in_flight.values()
        ]
        return ProcessState(
            mirror.draining.is_set(), self.observed.problems(), files, mirror.slots.busy, mirror.slots.total,
            self.rates.lately(), self.rates.points(POINTS_MAX),
        )  # fmt: skip

    def read_bytes(self) -> Counter[str]:
        """Bytes received from the source so far, by dataset, those of unfinished parts included."""
        mirror = self.observed.mirror
        read = Counter(mirror.meters.read_bytes)
        for entry in mirror.in_flight.values():
            read[entry.dataset] += sum(relay.seen for relay in entry.relays)
        return read

    async def _reader(self) -> Ledger:
        """The run's ledger through a connection of the page's own, opened by the first request that needs it."""
        async with self._opening:
            if self._ledger is None:
                self._ledger = await self.observed.mirror.ledger.reader()
            return self._ledger

    async def _read_current(self) -> Snapshot:
        ledger = await self._reader()
        report = await ledger.status()
        discovered = await ledger.fact(DISCOVERED)
        waiting, failures = await ledger.waiting_since(), await ledger.last_errors(FAILURES_MAX)
        return Snapshot(ledger.clock.wall_ms(), report, waiting, int(discovered or 0), failures)

    async def _read_recent(self) -> Recent:
        ledger = await self._reader()
        try:
            datasets = await resolve_known(ledger, self.observed.datasets)
        except UsageError:
            # A pattern matches no dataset that is known. Discovery reports that; the page shows no days.
            return Recent()
        today, now = ledger.clock.today(), ledger.clock.utc()
        span = DateRange(today - timedelta(days=RECENT_DAYS), today)
        days = {dataset: await days_of(ledger, dataset, span) for dataset in datasets}
        return Recent(days, {dataset: lag_s(found, now) for dataset, found in days.items()})

    async def _read_years(self) -> Mapping[str, range]:
        return await (await self._reader()).years()

    async def _read_calendar(self, dataset: str, year: int) -> YearCalendar:
        return await (await self._reader()).calendar(dataset, year)
