"""Completeness by date: which days the mirror has, which it lacks and why, and how long it has lacked them.

Everything comes from the ledger, a year of a dataset at a time; neither store is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from polyb2.core.catalogue import CATALOGUE, DATASETS, suggestion
from polyb2.core.coverage import SETTLED, Day, DayState, lag_s
from polyb2.core.errors import UsageError
from polyb2.core.keys import is_pattern, matches
from polyb2.core.selection import DateRange, Selection
from polyb2.ledger.ledger import Ledger

RECENT_DAYS = 30
"""What counts for the lag; older gaps are for ``coverage`` to tell, and seldom close."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """The days of a selection, by dataset and in order, as they were at ``moment``."""

    moment: datetime
    datasets: dict[str, list[Day]]

    @property
    def incomplete(self) -> list[Day]:
        """The days that one of the datasets should have and the mirror lacks in their newest revision, by date."""
        lacking = [day for days in self.datasets.values() for day in days if day.state not in SETTLED]
        return sorted(lacking, key=lambda day: (day.date, day.dataset))

    def as_json(self) -> dict[str, Any]:
        """``coverage --json``, as the README documents it."""
        lacking = self.incomplete
        return {
            "moment": self.moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "complete": not lacking,
            "incomplete": [
                {"date": day.date.isoformat(), "dataset": day.dataset, "state": day.state} for day in lacking
            ],
            "datasets": [
                {
                    "dataset": dataset,
                    "counts": {state: counted[state] for state in DayState},
                    "days": [_day_json(day) for day in days],
                }
                for dataset, days in self.datasets.items()
                for counted in [Counter(day.state for day in days)]
            ],
        }


async def resolve_known(ledger: Ledger, patterns: Iterable[str]) -> list[str]:
    """The datasets that patterns name: globs among those the ledger knows, else among the documented ones; no pattern is all.

    Raises:
        UsageError: a pattern names nothing that is known.
    """
    ours = list(await ledger.years())
    found: list[str] = []
    for pattern in patterns:
        named = [dataset for dataset in ours if matches(pattern, dataset)]
        named = named or [dataset for dataset in DATASETS if matches(pattern, dataset)]
        if not named:
            hint = "" if is_pattern(pattern) else suggestion(pattern, [*ours, *DATASETS])
            raise UsageError(
                f"--dataset: neither the ledger nor the catalogue has {pattern!r}{hint}: see polyb2 datasets"
            )
        found += named
    return list(dict.fromkeys(found)) if found else ours


async def days_of(ledger: Ledger, dataset: str, span: DateRange) -> list[Day]:
    """The days of a dataset from ``span.first`` to ``span.last``, both included."""
    years = range(span.first.year, span.last.year + 1)
    calendars = [await ledger.calendar(dataset, year) for year in years]
    return [day for calendar in calendars for day in calendar.days if day.date in span]


async def survey(ledger: Ledger, selection: Selection, datasets: Iterable[str]) -> Coverage:
    """The days of a selection, for each of the datasets; without an end it goes to today, without a start to the first year.

    Args:
        ledger: what is known.
        selection: its dates.
        datasets: their names, see :func:`resolve_known`.
    """
    today, known = ledger.clock.today(), await ledger.years()
    found: dict[str, list[Day]] = {}
    for dataset in datasets:
        first = _first_day(dataset, known.get(dataset))
        spans = [_clipped(span, first, today) for span in selection.ranges or (DateRange(date.min, date.max),)]
        days = {day.date: day for span in spans if span for day in await days_of(ledger, dataset, span)}
        found[dataset] = [days[name] for name in sorted(days)]
    return Coverage(ledger.clock.utc(), found)


async def late(ledger: Ledger, datasets: Iterable[str]) -> list[Day]:
    """The days that are late now."""
    lately = _lately(ledger.clock.today())
    days = [day for dataset in datasets for day in await days_of(ledger, dataset, lately)]
    return [day for day in days if day.state is DayState.LATE]


async def lag_by_dataset(ledger: Ledger, datasets: Iterable[str]) -> dict[str, float]:
    """For how many seconds the oldest due day of the last thirty that a dataset is behind with has been due; 0 for none."""
    now, lately = ledger.clock.utc(), _lately(ledger.clock.today())
    return {dataset: lag_s(await days_of(ledger, dataset, lately), now) for dataset in datasets}


def _first_day(dataset: str, years: range | None) -> date | None:
    """Where a selection without a start begins; None where nothing is known."""
    if years is not None:
        return date(years.start, 1, 1)
    documented = CATALOGUE.get(dataset)
    return documented.first if documented else None


def _clipped(span: DateRange, first: date | None, today: date) -> DateRange | None:
    """A span without the stretches that its open ends would add; None where nothing is left."""
    start = span.first if span.first != date.min else first
    end = span.last if span.last != date.max else today
    return None if start is None or start > end else DateRange(start, end)


def _day_json(day: Day) -> dict[str, Any]:
    file = day.file
    return {
        "date": day.date.isoformat(),
        "state": day.state,
        "closed_for": day.closed_for,
        "status": file and file.status,
        "reason": file and file.reason,
        "size": file and file.size,
        "revision": file and file.revision,
        "mirrored_revision": file and file.mirrored_revision,
    }


def _lately(today: date) -> DateRange:
    return DateRange(today - timedelta(days=RECENT_DAYS), today)
