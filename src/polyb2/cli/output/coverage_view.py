"""The calendar of what is mirrored, as tables and grids."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from polyb2.cli.output.console import NAMED_MAX, console, print_table, table
from polyb2.core.coverage import SETTLED, Day, DayState
from polyb2.core.selection import Mode, Selection, historical
from polyb2.flow.inspect.completeness import DaysOfYear, Lacking, by_year

if TYPE_CHECKING:
    from polyb2.ledger.ledger import Ledger

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


class _Summary:
    """Days counted by year and state, and the last of those that are named."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int], Counter[DayState]] = {}
        self.named: dict[DayState, deque[Day]] = {state: deque(maxlen=NAMED_MAX) for state in _NAMED}
        self.totals: Counter[DayState] = Counter()

    def add(self, found: DaysOfYear) -> None:
        counted = Counter(day.state for day in found.days)
        self.counts[found.dataset, found.year] = counted
        self.totals.update(counted)
        for day in found.days:
            if day.state in self.named:
                self.named[day.state].append(day)


def print_verdict(lacking: Lacking) -> None:
    """The days that are lacking, or "complete"."""
    out = console()
    for day, dataset, state in islice(lacking, NAMED_MAX):
        out.print(f"{day} {dataset}: {_words(state)}")
    if len(lacking) > NAMED_MAX:
        out.print(f"{len(lacking) - NAMED_MAX} more (--json names them)")
    out.print(f"not complete: {len(lacking)} files are lacking" if lacking else "complete")


async def print_coverage(ledger: Ledger, selection: Selection, datasets: Sequence[str]) -> None:
    """A table of the years, then their grids; only the newest year's where no dates were asked for.

    Each year is read for the table and again for its grid, so that no more than one is held.
    """
    out, summary = console(), _Summary()
    for dataset in datasets:
        async for found in by_year(ledger, selection, dataset):
            summary.add(found)
    _print_counts(out, summary.counts)
    newest = dict(list(summary.counts))
    for dataset, year in newest.items():
        chosen = selection
        if selection.mode is Mode.EVERYTHING:
            chosen = historical(date(year, 1, 1), min(date(year, 12, 31), ledger.clock.today()), (dataset,))
        async for found in by_year(ledger, chosen, dataset):
            out.print(f"\n{dataset} {found.year}", style="bold")
            _print_grid(out, found.days)
    for state, days in summary.named.items():
        _print_days(out, state, days, summary.totals[state])
    if not summary.counts:
        out.print("the ledger knows nothing of these days yet: run polyb2 discover")


def _print_counts(out: Console, counts: Mapping[tuple[str, int], Counter[DayState]]) -> None:
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


def _print_days(out: Console, state: DayState, days: Iterable[Day], total: int) -> None:
    if total:
        out.print()
    for day in days:
        reason = f" ({day.file.reason})" if day.file and day.file.reason else ""
        out.print(f"{_words(state)}: {day.dataset} {day.date}{reason}")
    if total > NAMED_MAX:
        out.print(f"{_words(state)}: {total - NAMED_MAX} days before those (--json names them)")


def _words(state: DayState) -> str:
    return state.replace("_", " ")
