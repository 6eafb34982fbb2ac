"""The calendar of a dataset: the state of each day, derived from the ledger's row, the listings that were made, and the time.

Invariants: the listing wins over the calendar of expected days; a day is said to be late or missing only if the source was
listed after the day's usual hour and did not have it; a day that was never listed is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from polyb2.core.calendar import closed, due
from polyb2.core.catalogue import CATALOGUE
from polyb2.core.compare import SOURCE_GONE
from polyb2.core.keys import FileName
from polyb2.core.status import Status

LATE_FOR = timedelta(days=7)
"""A file that is later than this counts as missing; types of one day were seen to arrive days apart."""


class DayState(StrEnum):
    """The state of a day, in the order of a legend; see README for the words."""

    MIRRORED = "mirrored"
    REVISED = "revised"
    QUEUED = "queued"
    FAILED = "failed"
    NOT_ENTITLED = "not_entitled"
    AVAILABLE = "available"
    LATE = "late"
    MISSING = "missing"
    EXPECTED = "expected"
    UNKNOWN = "unknown"
    CLOSED = "closed"
    BEFORE = "before"


SETTLED = frozenset({DayState.MIRRORED, DayState.CLOSED, DayState.BEFORE})
"""A day in one of these lacks nothing."""
BEHIND = frozenset({DayState.REVISED, DayState.QUEUED, DayState.FAILED, DayState.LATE})
"""A day in one of these was selected or is due, and the mirror lacks it; the other states are not delays of the mirror."""
_OF_STATUS = {
    Status.COMPLETED: DayState.MIRRORED,
    Status.PENDING: DayState.QUEUED,
    Status.PROCESSING: DayState.QUEUED,
    Status.FAILED_DOWNLOAD: DayState.FAILED,
    Status.FAILED_UPLOAD: DayState.FAILED,
    Status.PERMANENT_FAILURE: DayState.FAILED,
    Status.NOT_ENTITLED: DayState.NOT_ENTITLED,
}


@dataclass(frozen=True, slots=True)
class FileOfDay:
    """The ledger's row of a day's file; bytes. ``newer_is_held``: the source lists a newer revision, which is not queued."""

    date: date
    status: Status
    reason: str | None
    size: int
    revision: int
    mirrored_revision: int | None
    newer_is_held: bool = False

    @property
    def never_came(self) -> bool:
        """The file was listed once, was not mirrored, and is no longer listed: treated as if it had never been there."""
        return self.mirrored_revision is None and self.reason == SOURCE_GONE


@dataclass(frozen=True, slots=True)
class MonthSeen:
    """The result of a month's last listing: bit n - 1 is day n; epoch milliseconds."""

    days: int
    listed_ms: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The results of a dataset's listings, selected or not.

    Attributes:
        months: by ``(year, month)``.
        whole_ms: when the dataset was last listed as a whole, epoch milliseconds; None for never.
    """

    months: Mapping[tuple[int, int], MonthSeen] = field(default_factory=dict)
    whole_ms: int | None = None

    def has(self, day: date) -> bool:
        """Tell if the last listing of the day's month had a file of it."""
        month = self.months.get((day.year, day.month))
        return month is not None and bool(month.days >> (day.day - 1) & 1)

    def listed_ms(self, day: date) -> int | None:
        """The time of the last complete listing of the day's month; None for never."""
        month = self.months.get((day.year, day.month))
        return self.whole_ms if month is None else month.listed_ms

    @property
    def first(self) -> date | None:
        """The first day that is listed."""
        years = [(year, month, seen.days) for (year, month), seen in self.months.items() if seen.days]
        if not years:
            return None
        year, month, days = min(years)
        return date(year, month, (days & -days).bit_length())


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a dataset.

    Attributes:
        dataset: its dataset.
        date: the day.
        state: its state.
        closed_for: the reason why no file is expected (``weekend``, a holiday's name); None where one is.
        file: the ledger's row; None where it has none.
    """

    dataset: str
    date: date
    state: DayState
    closed_for: str | None
    file: FileOfDay | None

    @property
    def key(self) -> str:
        return FileName(self.dataset, self.date).key


@dataclass(frozen=True, slots=True)
class YearCalendar:
    """All days of a year of a dataset, from 1 January on."""

    dataset: str
    year: int
    days: tuple[Day, ...]

    def counts(self) -> Counter[DayState]:
        """The number of days of the year in each state."""
        return Counter(day.state for day in self.days)


def begin_of(dataset: str, seen: Seen, first_row: date | None) -> date | None:
    """The first day on which files are expected: the first that is listed, or as documented where not all was listed.

    Args:
        dataset: its name.
        seen: the results of listings.
        first_row: the date of the ledger's first row.
    """
    known = [day for day in (seen.first, first_row) if day is not None]
    documented = CATALOGUE.get(dataset)
    if documented is not None and (seen.whole_ms is None or not known):
        known.append(documented.first)
    return min(known, default=None)


def year_of(
    dataset: str, year: int, files: Iterable[FileOfDay], seen: Seen, begin: date | None, now: datetime
) -> YearCalendar:
    """The calendar of a dataset and year.

    Args:
        dataset: its name.
        year: 1 to 9999.
        files: the ledger's rows of that year.
        seen: what listings showed.
        begin: see :func:`begin_of`.
        now: the moment, with its zone.
    """
    by_date = {file.date: file for file in files}
    days = []
    for day in _days(year):
        file, reason = by_date.get(day), closed(dataset, day)
        if file is not None and not file.never_came:
            state = _of_the_file(file)
        else:
            state = _of_the_unmirrored(day, seen, begin, now, is_closed=reason is not None)
        days.append(Day(dataset, day, state, reason, file))
    return YearCalendar(dataset, year, tuple(days))


def lag_s(days: Iterable[Day], now: datetime) -> float:
    """Seconds for which the oldest day that is due and behind has been due; 0 if there is none."""
    waiting = [due(day.date) for day in days if day.state in BEHIND and due(day.date) <= now]
    return (now - min(waiting)).total_seconds() if waiting else 0.0


def _days(year: int) -> Iterator[date]:
    first, last = date(year, 1, 1).toordinal(), date(year, 12, 31).toordinal()
    return map(date.fromordinal, range(first, last + 1))


def _of_the_file(file: FileOfDay) -> DayState:
    state = _OF_STATUS[file.status]
    if file.mirrored_revision is None:
        return state
    return DayState.REVISED if state is DayState.QUEUED or file.newer_is_held else state


def _of_the_unmirrored(day: date, seen: Seen, begin: date | None, now: datetime, *, is_closed: bool) -> DayState:
    """Derive the state of a day without a file in the ledger: listed, not expected, or missed, as far as it was listed."""
    if seen.has(day):
        return DayState.AVAILABLE
    if begin is not None and day < begin:
        return DayState.BEFORE
    if is_closed:
        return DayState.CLOSED
    usual, listed_ms = due(day), seen.listed_ms(day)
    if now < usual:
        return DayState.EXPECTED
    if listed_ms is None or listed_ms < usual.timestamp() * 1000:
        return DayState.UNKNOWN
    return DayState.LATE if now - usual < LATE_FOR else DayState.MISSING
