"""The files that a command is about: datasets by name or glob, and dates, all inclusive.

Dates are those in the files' names; "today" is the day in US Eastern and is always passed in, never read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from polyb2.core.errors import UsageError
from polyb2.core.keys import check_pattern, matches

LOOKBACK_DAYS = 7
"""Days before today that ``--daily`` and the watch take."""
MONTH_PREFIXES_MAX = 24
"""A selection over more months is cheaper to list as the whole dataset: 1,000 keys a page are four years of days."""


class Mode(StrEnum):
    DATES = "dates"
    HISTORICAL = "historical"
    DAILY = "daily"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class DateRange:
    """From ``first`` to ``last``, both included."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return self.first.isoformat() if self.first == self.last else f"{self.first}..{self.last}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Dataset patterns and date ranges.

    Attributes:
        mode: how the user named the dates.
        datasets: names or two-segment globs; empty means every dataset.
        ranges: date ranges; empty means every date.
    """

    mode: Mode
    datasets: tuple[str, ...] = ()
    ranges: tuple[DateRange, ...] = ()

    def has_dataset(self, dataset: str) -> bool:
        return not self.datasets or any(matches(pattern, dataset) for pattern in self.datasets)

    def has_date(self, day: date) -> bool:
        return not self.ranges or any(day in span for span in self.ranges)

    def prefixes(self, dataset: str) -> list[str]:
        """The narrowest listing prefixes of a dataset: its months where the dates name few, else all of it."""
        months = sorted({month for span in self.ranges for month in _months(span)})
        if not months or len(months) > MONTH_PREFIXES_MAX:
            return [f"{dataset}/"]
        return [f"{dataset}/{year:04}/{month:02}/" for year, month in months]


EVERYTHING = Selection(Mode.EVERYTHING)


def daily(today: date, lookback_days: int, datasets: tuple[str, ...] = ()) -> Selection:
    """The files dated from ``today - lookback_days`` to ``today``."""
    first = date.fromordinal(max(1, today.toordinal() - lookback_days))
    return Selection(Mode.DAILY, datasets, (DateRange(first, today),))


def historical(start: date | None, end: date | None, datasets: tuple[str, ...] = ()) -> Selection:
    """All files between two dates, both included and both optional.

    Raises:
        UsageError: the start lies after the end.
    """
    if start is None and end is None:
        return Selection(Mode.HISTORICAL, datasets)
    span = _range(start or date.min, end or date.max, f"--start-date {start} --end-date {end}")
    return Selection(Mode.HISTORICAL, datasets, (span,))


def named_dates(words: list[str], datasets: tuple[str, ...] = ()) -> Selection:
    """``2024-01-02``, comma-separated, and ranges ``2024-01-02..2024-01-31``.

    Raises:
        UsageError: a word is no date or range, or a range is reversed.
    """
    pieces = [piece.strip() for word in words for piece in word.split(",") if piece.strip()]
    if not pieces:
        raise UsageError("--dates is empty: write --dates 2024-01-02 or --dates 2024-01-02..2024-01-31")
    return Selection(Mode.DATES, datasets, tuple(dict.fromkeys(_parse_span(piece) for piece in pieces)))


def split_datasets(words: list[str]) -> tuple[str, ...]:
    """Comma-separated and repeated dataset patterns as one tuple without repeats.

    Raises:
        UsageError: a pattern is not of two segments, or the text is not empty and holds no pattern.
    """
    try:
        pieces = [check_pattern(piece.strip()) for word in words for piece in word.split(",") if piece.strip()]
    except ValueError as error:
        raise UsageError(f"--dataset: {error}") from error
    if words and not pieces:
        raise UsageError("--dataset is empty: write --dataset us_stocks_sip/day_aggs_v1, or leave it out")
    return tuple(dict.fromkeys(pieces))


def parse_date(text: str, option: str) -> date:
    """An ISO date, ``2024-01-02``.

    Raises:
        UsageError: the text is not one.
    """
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a date has no zone
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a date; write YYYY-MM-DD, like 2024-01-02") from None


def _parse_span(piece: str) -> DateRange:
    first, dots, last = piece.partition("..")
    start = parse_date(first, "--dates")
    return _range(start, parse_date(last, "--dates"), f"--dates {piece}") if dots else DateRange(start, start)


def _range(first: date, last: date, words: str) -> DateRange:
    if first > last:
        raise UsageError(f"{words}: the start lies after the end; write the earlier date first")
    return DateRange(first, last)


def _months(span: DateRange) -> list[tuple[int, int]]:
    first, last = span.first.year * 12 + span.first.month - 1, span.last.year * 12 + span.last.month - 1
    if last - first > MONTH_PREFIXES_MAX:
        last = first + MONTH_PREFIXES_MAX  # one more than the limit is enough to exceed it
    return [(month // 12, month % 12 + 1) for month in range(first, last + 1)]
