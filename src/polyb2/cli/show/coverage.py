"""The calendar of what is mirrored, as tables and grids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from polyb2.cli.show.output import NAMED_MAX, console, print_table, table
from polyb2.core.coverage import SETTLED, Day, DayState

if TYPE_CHECKING:
    from polyb2.flow.coverage import Coverage

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MARKED_DAYS = (1, 5, 10, 15, 20, 25, 30)
_SIGNS = {
    DayState.MIRRORED: ("M", "green"),
    DayState.REVISED: ("R", "cyan"),
    DayState.QUEUED: ("Q", "blue"),
    DayState.FAILED: ("F", "bold red"),
    DayState.NOT_ENTITLED: ("N", "magenta"),
    DayState.AVAILABLE: ("A", "default"),
    DayState.LATE: ("L", "bold yellow"),
    DayState.MISSING: ("X", "bold red"),
    DayState.EXPECTED: ("E", "dim"),
    DayState.UNKNOWN: ("?", "yellow"),
    DayState.CLOSED: (".", "dim"),
    DayState.BEFORE: (" ", "default"),
}
_NAMED = (DayState.LATE, DayState.MISSING, DayState.FAILED)


def print_verdict(found: Coverage) -> None:
    """What is lacking, or that nothing is."""
    out, lacking = console(), found.incomplete
    for day in lacking[:NAMED_MAX]:
        out.print(f"{day.date} {day.dataset}: {_words(day.state)}")
    if len(lacking) > NAMED_MAX:
        out.print(f"{len(lacking) - NAMED_MAX} more (--json names them)")
    out.print(f"not complete: {len(lacking)} files are lacking" if lacking else "complete")


def print_coverage(found: Coverage, *, every_year: bool) -> None:
    """A table of the years, then their grids; only the newest year's where no dates were asked for."""
    out = console()
    _print_counts(out, found)
    for dataset, days in found.datasets.items():
        years = list(_by_year(days))
        for year, of_year in years if every_year else years[-1:]:
            out.print(f"\n{dataset} {year}", style="bold")
            _print_grid(out, of_year)
    for state in _NAMED:
        _print_days(out, state, [day for days in found.datasets.values() for day in days if day.state is state])
    if not any(found.datasets.values()):
        out.print("the ledger knows nothing of these days yet: run polyb2 discover")


def _print_counts(out: Console, found: Coverage) -> None:
    counts = {
        (dataset, year): Counter(day.state for day in of_year)
        for dataset, days in found.datasets.items()
        for year, of_year in _by_year(days)
    }
    shown = [state for state in DayState if state not in SETTLED - {DayState.MIRRORED}]
    shown = [state for state in shown if any(counted[state] for counted in counts.values())]
    heads = [_words(state) for state in shown]
    made = table("dataset", "year", *heads, right=(*heads,))
    for (dataset, year), counted in counts.items():
        made.add_row(dataset, str(year), *(Text(str(counted[state]), style=_SIGNS[state][1]) for state in shown))
    if counts:
        print_table(out, made)


def _print_grid(out: Console, days: Iterable[Day]) -> None:
    """A line a month, a column a day; the letters say what the colours say."""
    by_date = {(day.date.month, day.date.day): day for day in days}
    out.print("     " + "".join(f"{number if number in _MARKED_DAYS else '':<2}" for number in range(1, 32)).rstrip())
    for month, name in enumerate(_MONTHS, 1):
        line = Text(f"{name}  ")
        for number in range(1, 32):
            day = by_date.get((month, number))
            sign, style = _SIGNS[day.state] if day else (" ", "")
            line.append(sign, style=style).append(" ")
        if any(key[0] == month for key in by_date):
            line.rstrip()
            out.print(line)
    out.print(_legend(by_date.values()))


def _legend(days: Iterable[Day]) -> Text:
    counted = Counter(day.state for day in days)
    line = Text("     ")
    for state in DayState:
        if counted[state] and state is not DayState.BEFORE:
            sign, style = _SIGNS[state]
            line.append(sign, style=style).append(f" {_words(state)} {counted[state]}  ")
    line.rstrip()
    return line


def _print_days(out: Console, state: DayState, days: list[Day]) -> None:
    if days:
        out.print()
    for day in days[-NAMED_MAX:]:
        reason = f" ({day.file.reason})" if day.file and day.file.reason else ""
        out.print(f"{_words(state)}: {day.dataset} {day.date}{reason}")
    if len(days) > NAMED_MAX:
        out.print(f"{_words(state)}: {len(days) - NAMED_MAX} days before those (--json names them)")


def _by_year(days: Iterable[Day]) -> Iterator[tuple[int, list[Day]]]:
    for year, of_year in groupby(days, key=lambda day: day.date.year):
        yield year, list(of_year)


def _words(state: DayState) -> str:
    return state.replace("_", " ")
