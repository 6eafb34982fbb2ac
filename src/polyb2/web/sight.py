"""What there is to see: the engine's own state, and the ledger through a connection that cannot write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from polyb2.core.coverage import Day, YearCalendar, lag_s
from polyb2.core.errors import UsageError
from polyb2.core.selection import DateRange
from polyb2.flow.inspect.completeness import RECENT_DAYS, days_of, resolve_known
from polyb2.flow.mirror import Mirror
from polyb2.ledger.binding import DISCOVERED
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.reports import StatusReport
from polyb2.web.rates import Rates
from polyb2.web.sharing import Shared

RECENT_FRESH_S = 30.0
CALENDAR_FRESH_S = 5.0
CALENDARS_MAX = 16
ERRORS_MAX = 200


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at.

    Attributes:
        mirror: the engine's shared state.
        datasets: the chosen ones, patterns among them.
        discovers: whether this process lists the source.
        problems: what stands in the way of work now, in words; empty means ready.
    """

    mirror: Mirror
    datasets: tuple[str, ...]
    discovers: Callable[[], bool]
    problems: Callable[[], list[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """The ledger at one moment; epoch milliseconds, 0 for a discovery that never was."""

    now_ms: int
    report: StatusReport
    waiting_since_ms: Mapping[str, int]
    discovered_ms: int
    errors: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Recent:
    """The last days of the chosen datasets, and for how many seconds each has lacked the oldest of them that was due."""

    days: Mapping[str, list[Day]] = field(default_factory=dict)
    lags_s: Mapping[str, float] = field(default_factory=dict)


class Sight:
    """The subject and its ledger, for those who show them; every question may raise LedgerError."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.rates = Rates(lambda: self.read_bytes().total())
        self._ledger: Ledger | None = None
        self._opening = asyncio.Lock()
        self._picture = Shared(self._look)
        self._recent = Shared(self._look_back, RECENT_FRESH_S)
        self._years = Shared(self._read_years, CALENDAR_FRESH_S)
        self._calendars: dict[tuple[str, int], Shared[YearCalendar]] = {}

    async def ledger(self) -> Ledger:
        """The run's ledger through a connection of the page's own, made for the first who asks."""
        async with self._opening:
            if self._ledger is None:
                self._ledger = await self.subject.mirror.ledger.reader()
            return self._ledger

    async def close(self) -> None:
        await self._recent.close()
        if self._ledger is not None:
            await self._ledger.close()

    async def picture(self) -> Picture:
        """The ledger as it was at most a second ago."""
        return await self._picture.get()

    async def recent(self) -> Recent:
        """The last days, as they were half a minute ago or when somebody last asked."""
        return await self._recent.get_soon()

    async def years(self) -> Mapping[str, range]:
        """The years of each dataset of which the ledger knows anything, as it was some seconds ago."""
        return await self._years.get()

    async def calendar(self, dataset: str, year: int) -> YearCalendar:
        """What became of each day of a year, as it was some seconds ago."""
        if (dataset, year) not in self._calendars and len(self._calendars) >= CALENDARS_MAX:
            del self._calendars[next(iter(self._calendars))]
        make = partial(self._read_calendar, dataset, year)
        return await self._calendars.setdefault((dataset, year), Shared(make, CALENDAR_FRESH_S)).get()

    def read_bytes(self) -> Counter[str]:
        """Bytes that came in from the source so far, by dataset; those of parts under way are among them."""
        mirror = self.subject.mirror
        read = Counter(mirror.meters.read_bytes)
        for entry in mirror.in_flight.values():
            read[entry.dataset] += sum(relay.seen for relay in entry.relays)
        return read

    async def _look(self) -> Picture:
        ledger = await self.ledger()
        report = await ledger.status()
        discovered = await ledger.fact(DISCOVERED)
        waiting, errors = await ledger.waiting_since(), await ledger.last_errors(ERRORS_MAX)
        return Picture(ledger.clock.wall_ms(), report, waiting, int(discovered or 0), errors)

    async def _look_back(self) -> Recent:
        ledger = await self.ledger()
        try:
            datasets = await resolve_known(ledger, self.subject.datasets)
        except UsageError:
            # A pattern names nothing that is known: discovery says so, here nothing is shown.
            return Recent()
        today, now = ledger.clock.today(), ledger.clock.utc()
        span = DateRange(today - timedelta(days=RECENT_DAYS), today)
        days = {dataset: await days_of(ledger, dataset, span) for dataset in datasets}
        return Recent(days, {dataset: lag_s(found, now) for dataset, found in days.items()})

    async def _read_years(self) -> Mapping[str, range]:
        return await (await self.ledger()).years()

    async def _read_calendar(self, dataset: str, year: int) -> YearCalendar:
        return await (await self.ledger()).calendar(dataset, year)
