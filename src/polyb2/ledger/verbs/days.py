"""The days of a dataset: rows of files, and what the source's listings showed.

A year of a dataset is one stretch of keys, so that its calendar takes the same time however many rows there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from polyb2.core.coverage import FileOfDay, MonthSeen, Seen, YearCalendar, begin_of, year_of
from polyb2.core.keys import END
from polyb2.core.status import Status
from polyb2.ledger.rows import ListedDays
from polyb2.ledger.store import Row, Transaction

WHOLE = ""


@dataclass(frozen=True, slots=True)
class YearFacts:
    """Rows of files and listings of a dataset and year, the date of the dataset's first row, and what is held.

    ``held`` are the dates of files of which a newer revision is listed and not queued.
    """

    dataset: str
    year: int
    files: Sequence[Row]
    listings: Sequence[Row]
    first_row: date | None
    held: frozenset[str] = frozenset()

    def calendar(self, now: datetime) -> YearCalendar:
        """The calendar of the year: the state of each day."""
        seen = _seen(self.listings)
        begin = begin_of(self.dataset, seen, self.first_row)
        files = (_file(row, held=row["date"] in self.held) for row in self.files)
        return year_of(self.dataset, self.year, files, seen, begin, now)


def note_listed(tx: Transaction, found: ListedDays) -> None:
    """Keep what a listing that went to its end showed."""
    listed_ms = int(found.began.timestamp() * 1000)
    months = _bits(found.days)
    months.setdefault(found.month, 0)
    if found.month == WHOLE:
        tx.run("listings_forget", dataset=found.dataset)
    for month, days in months.items():
        tx.run("listing_set", dataset=found.dataset, month=month, days=days, listed_ms=listed_ms)


def edges(tx: Transaction) -> dict[str, tuple[date, date]]:
    """The dates of the first and the last row of each dataset that has rows."""
    found: dict[str, tuple[date, date]] = {}
    for dataset in (row["dataset"] for row in tx.rows("datasets")):
        first, last = (tx.row(name, **_stretch(dataset)) for name in ("files_first", "files_last"))
        if first is not None and last is not None:
            found[dataset] = date.fromisoformat(first["date"]), date.fromisoformat(last["date"])
    return found


def years(tx: Transaction) -> dict[str, range]:
    """The years of each dataset of which the ledger knows anything."""
    known = {dataset: [day.year for day in days] for dataset, days in edges(tx).items()}
    for dataset in (row["dataset"] for row in tx.rows("listings_datasets")):
        months = [row["month"] for row in tx.rows("listings_of", dataset=dataset) if row["days"]]
        known[dataset] = [*known.get(dataset, ()), *(int(month[:4]) for month in months)]
    return {dataset: range(min(of), max(of) + 1) for dataset, of in sorted(known.items()) if of}


def year_facts(tx: Transaction, dataset: str, year: int) -> YearFacts:
    """Everything known of a dataset and year; the calendar is worked out when the transaction is over."""
    of_year = _stretch(f"{dataset}/{year:04}")
    rows, held = tx.rows("files_of_days", **of_year), tx.rows("held_days", **of_year)
    first = tx.row("files_first", **_stretch(dataset))
    seen = tx.rows("listings_of", dataset=dataset)
    first_row = date.fromisoformat(first["date"]) if first else None
    return YearFacts(dataset, year, rows, seen, first_row, frozenset(row["date"] for row in held))


def _stretch(folder: str) -> dict[str, str]:
    return {"after": f"{folder}/", "before": f"{folder}/{END}"}


def _bits(days: Iterable[date]) -> dict[str, int]:
    months: dict[str, int] = defaultdict(int)
    for day in days:
        months[day.isoformat()[:7]] |= 1 << (day.day - 1)
    return months


def _seen(rows: Iterable[Row]) -> Seen:
    months: dict[tuple[int, int], MonthSeen] = {}
    whole_ms = None
    for row in rows:
        if row["month"] == WHOLE:
            whole_ms = row["listed_ms"]
        else:
            year, _, month = row["month"].partition("-")
            months[int(year), int(month)] = MonthSeen(row["days"], row["listed_ms"])
    return Seen(months, whole_ms)


def _file(row: Row, *, held: bool) -> FileOfDay:
    return FileOfDay(
        date=date.fromisoformat(row["date"]),
        status=Status(row["status"]),
        reason=row["reason"],
        size=row["size"],
        revision=row["revision"],
        mirrored_revision=row["mirrored_revision"],
        newer_is_held=held,
    )
