"""``coverage``: the calendar of what is mirrored, as grids to look at, JSON, or an exit code to wait for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.cli.output import NAMED_MAX, console, print_table, table
from polyb2.core.coverage import SETTLED, Day, DayState
from polyb2.core.errors import UsageError
from polyb2.core.selection import Mode, Selection

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.flow.coverage import Coverage

INCOMPLETE = 3
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


class Required(StrEnum):
    """What ``--require`` can ask for."""

    COMPLETE = "complete"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        epilog="Example: polyb2 coverage    or, in a script: polyb2 coverage --require complete --dates 2024-01-02"
    )(coverage)


def coverage(
    dates: o.Dates = None,
    historical: o.Historical = False,
    daily: o.Daily = False,
    start_date: o.StartDate = None,
    end_date: o.EndDate = None,
    lookback_days: o.Lookback = None,
    dataset: o.Datasets = None,
    require: Annotated[
        Required | None,
        typer.Option("--require", help="Exit 3 unless the mirror has these dates of all chosen datasets."),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Which dates of which dataset are mirrored, missing at the source, late, failed: a calendar, from the ledger alone."""
    settings = configured()
    selection = o.select(dates, historical, daily, start_date, end_date, lookback_days, dataset, defaults=None)
    if require is not None and selection.mode is Mode.EVERYTHING:
        raise UsageError("--require needs dates: --dates 2024-01-02, --daily, or --historical with --start-date")
    chosen = selection.datasets or (settings.datasets if require else ())
    set_up_logging(settings.log_level)
    found = in_loop(_survey(settings, selection, chosen))
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    elif require is not None:
        _print_verdict(found)
    else:
        _print_coverage(found, every_year=selection.mode is not Mode.EVERYTHING)
    if require is not None and found.incomplete:
        raise typer.Exit(INCOMPLETE)


async def _survey(settings: Settings, selection: Selection, patterns: Sequence[str]) -> Coverage:
    from polyb2.flow.coverage import resolve_known, survey
    from polyb2.ledger.ledger import Ledger

    ledger = await Ledger.open(settings.database_path, read_only=True)
    try:
        return await survey(ledger, selection, await resolve_known(ledger, patterns))
    finally:
        await ledger.close()


def _print_verdict(found: Coverage) -> None:
    out, lacking = console(), found.incomplete
    for day in lacking[:NAMED_MAX]:
        out.print(f"{day.date} {day.dataset}: {_words(day.state)}")
    if len(lacking) > NAMED_MAX:
        out.print(f"{len(lacking) - NAMED_MAX} more (--json names them)")
    out.print(f"not complete: {len(lacking)} files are lacking" if lacking else "complete")


def _print_coverage(found: Coverage, *, every_year: bool) -> None:
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
