"""Completeness by date: which days the mirror has, which it lacks and why, and how long it has lacked them.

Everything comes from the ledger, a year of a dataset at a time; neither store is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from polyb2.core.catalogue import DATASETS, suggestion
from polyb2.core.coverage import SETTLED, Day, DayState, lag_s
from polyb2.core.errors import UsageError
from polyb2.core.keys import is_pattern, matches
from polyb2.core.selection import DateRange
from polyb2.ledger.ledger import Ledger

RECENT_DAYS = 30
"""What counts for the lag; older gaps are for ``coverage`` to tell, and seldom close."""


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


async def incomplete(ledger: Ledger, datasets: Iterable[str], spans: Iterable[DateRange]) -> list[Day]:
    """The days that one of the datasets should have and the mirror lacks, by date."""
    found = {
        (day.date, day.dataset): day
        for dataset in datasets
        for span in spans
        for day in await days_of(ledger, dataset, span)
        if day.state not in SETTLED
    }
    return [found[name] for name in sorted(found)]


async def late(ledger: Ledger, datasets: Iterable[str]) -> list[Day]:
    """The days that are late now."""
    lately = _lately(ledger.clock.today())
    days = [day for dataset in datasets for day in await days_of(ledger, dataset, lately)]
    return [day for day in days if day.state is DayState.LATE]


async def lag_by_dataset(ledger: Ledger, datasets: Iterable[str]) -> dict[str, float]:
    """For how many seconds the oldest due day of the last thirty that a dataset is behind with has been due; 0 for none."""
    now, lately = ledger.clock.utc(), _lately(ledger.clock.today())
    return {dataset: lag_s(await days_of(ledger, dataset, lately), now) for dataset in datasets}


def _lately(today: date) -> DateRange:
    return DateRange(today - timedelta(days=RECENT_DAYS), today)
