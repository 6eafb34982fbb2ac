"""Completeness by date: the days that the mirror has, those it lacks and why, and for how long it has lacked them.

Everything comes from the ledger, one year of a dataset in memory at a time; neither store is asked.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from heapq import merge
from typing import Any

from polyb2.core.catalogue import CATALOGUE, DATASETS, suggestion
from polyb2.core.coverage import SETTLED, Day, DayState
from polyb2.core.errors import UsageError
from polyb2.core.keys import is_pattern, matches
from polyb2.core.selection import DateRange, Selection
from polyb2.ledger.ledger import Ledger

_STATES = tuple(DayState)
RECENT_DAYS = 30
"""Days that count for the lag; older gaps are reported by ``coverage``, and seldom close."""


@dataclass(frozen=True, slots=True)
class DaysOfYear:
    """The days of a selection in one year of a dataset, in order."""

    dataset: str
    year: int
    days: list[Day]


class Lacking:
    """The days that a dataset should have and the mirror lacks in their newest revision: some bytes each, however many."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[array[int], bytearray]] = {}

    def add(self, days: Iterable[Day]) -> None:
        """Keep those of the days that lack something; a dataset's days come in their order."""
        for day in days:
            if day.state not in SETTLED:
                dates, states = self._found.setdefault(day.dataset, (array("l"), bytearray()))
                dates.append(day.date.toordinal())
                states.append(_STATES.index(day.state))

    def __len__(self) -> int:
        return sum(len(states) for _, states in self._found.values())

    def __iter__(self) -> Iterator[tuple[date, str, DayState]]:
        """By date, then dataset."""
        for ordinal, dataset, state in merge(*map(self._of, self._found)):
            yield date.fromordinal(ordinal), dataset, _STATES[state]

    def _of(self, dataset: str) -> Iterator[tuple[int, str, int]]:
        dates, states = self._found[dataset]
        return ((ordinal, dataset, state) for ordinal, state in zip(dates, states, strict=True))


async def resolve_known(ledger: Ledger, patterns: Iterable[str]) -> list[str]:
    """The datasets that patterns name: globs among those the ledger knows, else among the documented ones; no pattern is all.

    Raises:
        UsageError: a pattern names no known dataset.
    """
    ours = list(await ledger.years())
    found: list[str] = []
    for pattern in patterns:
        named = [dataset for dataset in ours if matches(pattern, dataset)]
        named = named or [dataset for dataset in DATASETS if matches(pattern, dataset)]
        if not named:
            hint = "" if is_pattern(pattern) else suggestion(pattern, [*ours, *DATASETS])
            raise UsageError(
                f"neither the ledger nor the catalogue has {pattern!r}{hint}, which --dataset or POLYB2_DATASETS names: "
                "see polyb2 datasets"
            )
        found += named
    return list(dict.fromkeys(found)) if found else ours


async def days_of(ledger: Ledger, dataset: str, span: DateRange) -> list[Day]:
    """The days of a dataset from ``span.first`` to ``span.last``, both included."""
    years = range(span.first.year, span.last.year + 1)
    calendars = [await ledger.calendar(dataset, year) for year in years]
    return [day for calendar in calendars for day in calendar.days if day.date in span]


async def by_year(ledger: Ledger, selection: Selection, dataset: str) -> AsyncIterator[DaysOfYear]:
    """The days of a selection of one dataset; without an end up to today, without a start from the first year."""
    today, first = ledger.clock.today(), _first_day(dataset, (await ledger.years()).get(dataset))
    clipped = (_clipped(span, first, today) for span in selection.ranges or (DateRange(date.min, date.max),))
    spans = [span for span in clipped if span is not None]
    for year in sorted({year for span in spans for year in range(span.first.year, span.last.year + 1)}):
        calendar = await ledger.calendar(dataset, year)
        days = [day for day in calendar.days if any(day.date in span for span in spans)]
        if days:
            yield DaysOfYear(dataset, year, days)


async def write_json(
    ledger: Ledger, selection: Selection, datasets: Iterable[str], write: Callable[[str], object]
) -> Lacking:
    """Write ``coverage --json``, as the README documents it, a year of a dataset at a time; return the lacking days."""
    lacking = Lacking()
    moment = ledger.clock.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    write(f'{{"moment": {json.dumps(moment)}, "datasets": [')
    for index, dataset in enumerate(datasets):
        counted: Counter[DayState] = Counter()
        write(f'{", " if index else ""}{{"dataset": {json.dumps(dataset)}, "days": [')
        separator = ""
        async for of_year in by_year(ledger, selection, dataset):
            lacking.add(of_year.days)
            counted.update(day.state for day in of_year.days)
            write(separator + ", ".join(json.dumps(_day_json(day)) for day in of_year.days))
            separator = ", "
        write(f'], "counts": {json.dumps({state: counted[state] for state in DayState})}}}')
    write('], "incomplete": [')
    for index, (day, dataset, state) in enumerate(lacking):
        named = json.dumps({"date": day.isoformat(), "dataset": dataset, "state": state})
        write(f"{', ' if index else ''}{named}")
    write(f'], "complete": {json.dumps(not lacking)}}}\n')
    return lacking


async def lacking_of(ledger: Ledger, selection: Selection, datasets: Iterable[str]) -> Lacking:
    """The lacking days of a selection."""
    lacking = Lacking()
    for dataset in datasets:
        async for of_year in by_year(ledger, selection, dataset):
            lacking.add(of_year.days)
    return lacking


async def late(ledger: Ledger, datasets: Iterable[str]) -> list[Day]:
    """The days that are late now."""
    today = ledger.clock.today()
    lately = DateRange(today - timedelta(days=RECENT_DAYS), today)
    days = [day for dataset in datasets for day in await days_of(ledger, dataset, lately)]
    return [day for day in days if day.state is DayState.LATE]


def _first_day(dataset: str, years: range | None) -> date | None:
    """The first day of a selection without a start; None if nothing is known."""
    if years is not None:
        return date(years.start, 1, 1)
    documented = CATALOGUE.get(dataset)
    return documented.first if documented else None


def _clipped(span: DateRange, first: date | None, today: date) -> DateRange | None:
    """A span without the stretches that its open ends would add; None if nothing is left."""
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
