"""Coverage as values: the last days of the selected datasets side by side, and a year of one of them as a calendar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from polyb2.core.coverage import Day, DayState, YearCalendar
from polyb2.core.units import format_duration, format_size
from polyb2.web.history import day_url
from polyb2.web.signs import DAY_SIGNS, Sign
from polyb2.web.snapshot import Recent

STRIP_DAYS = 14
STRIP_DAYS_OF_MANY = 7
MANY = 12
"""Datasets above which the strip is a week, so that the page stays small."""
SATURDAY = 5
_WITHOUT_HISTORY = {DayState.CLOSED, DayState.BEFORE, DayState.EXPECTED}


@dataclass(frozen=True, slots=True)
class Cell:
    """A day: the class of its look, its title, and the page of its file where it has one."""

    date: date
    sign: Sign
    title: str | None
    url: str | None


@dataclass(frozen=True, slots=True)
class StripRow:
    """The last days of a dataset; ``complete`` says whether one is lacking."""

    dataset: str
    cells: Sequence[Cell]
    complete: Sign


@dataclass(frozen=True, slots=True)
class Coverage:
    """The section: the last days, the calendar of a dataset and year, and what can be chosen instead.

    Attributes:
        months: of the year, as weeks from Monday on; None stands for a day of the month before.
        legend: how many days have which sign.
    """

    strip: Sequence[StripRow]
    dataset: str
    year: int
    datasets: Iterable[str]
    years: Sequence[int]
    months: Sequence[Sequence[Sequence[Cell | None]]]
    legend: Sequence[tuple[int, Sign]]


def coverage_of(recent: Recent, years: Mapping[str, range], calendar: YearCalendar) -> Coverage:
    counts = calendar.counts()
    return Coverage(
        _strip(recent),
        calendar.dataset,
        calendar.year,
        years,
        years.get(calendar.dataset, range(0))[::-1],
        [_month(list(days)) for _, days in groupby(calendar.days, key=lambda day: day.date.month)],
        [(counts[state], sign) for state, sign in DAY_SIGNS.items() if counts[state] and state is not DayState.BEFORE],
    )


def _strip(recent: Recent) -> list[StripRow]:
    count = STRIP_DAYS if len(recent.days) <= MANY else STRIP_DAYS_OF_MANY
    return [
        StripRow(dataset, list(map(_cell, days[-count:])), _complete(days[-count:], recent.lags_s.get(dataset, 0.0)))
        for dataset, days in recent.days.items()
        if days
    ]


def _complete(days: list[Day], lag_s: float) -> Sign:
    if any(day.state is DayState.NOT_ENTITLED for day in days):
        return Sign("rest", "⊘", "not in your plan")
    if not lag_s:
        return Sign("good", "✓", "yes")
    return Sign("late", "!", f"{format_duration(lag_s)} behind")


def _month(days: list[Day]) -> list[list[Cell | None]]:
    cells = [None] * days[0].date.weekday() + list(map(_cell, days))
    return [cells[start : start + 7] for start in range(0, len(cells), 7)]


def _cell(day: Day) -> Cell:
    url = None if day.state in _WITHOUT_HISTORY else day_url(day.dataset, day.date)
    return Cell(day.date, DAY_SIGNS[day.state], _title(day), url)


def _title(day: Day) -> str | None:
    """The meaning of a day's sign and colour; the script puts the date before it."""
    if day.state is DayState.CLOSED:
        return day.closed_for if day.date.weekday() < SATURDAY else None
    newest = ""
    if day.state is DayState.REVISED and day.file is not None:
        newest = ", the newest waits until you agree to it" if day.file.newer_is_held else ", the newest is queued"
    size = f", {format_size(day.file.size)}" if day.file is not None else ""
    revision = f", revision {day.file.revision}" if day.file is not None and day.file.revision > 1 else ""
    return f"{DAY_SIGNS[day.state].words}{newest}{size}{revision}"


def latest_year(years: range, today: date) -> int:
    """The year to show first: this one, or the last of which anything is known."""
    return min(max(years.stop - 1, years.start), (today + timedelta(days=1)).year)
