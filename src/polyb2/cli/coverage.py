"""``coverage``: the calendar of what is mirrored, as grids to look at, JSON, or an exit code to wait for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.cli.verdict import ending_with
from polyb2.core.errors import UsageError
from polyb2.core.selection import Mode, Selection

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.flow.inspect.completeness import Lacking

INCOMPLETE = 3


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
    daily: o.DailyOf = False,
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
    lacking = in_loop(_tell(settings, selection, chosen, as_json=as_json, require=require is not None))
    with ending_with(INCOMPLETE if require is not None and lacking else 0):
        if require is not None and not as_json:
            from polyb2.cli.show.coverage import print_verdict

            print_verdict(lacking)


async def _tell(
    settings: Settings, selection: Selection, patterns: Sequence[str], *, as_json: bool, require: bool
) -> Lacking:
    """Print the calendar or the JSON, while it is made; what lacks, where anybody asks for it."""
    from polyb2.flow.inspect.completeness import Lacking, lacking_of, resolve_known, write_json
    from polyb2.ledger.open import open_ledger

    ledger = await open_ledger(settings.database_url, read_only=True)
    try:
        datasets = await resolve_known(ledger, patterns)
        if as_json:
            return await write_json(ledger, selection, datasets, _to_its_end if require else sys.stdout.write)
        if require:
            return await lacking_of(ledger, selection, datasets)
        from polyb2.cli.show.coverage import print_coverage

        await print_coverage(ledger, selection, datasets)
        return Lacking()
    finally:
        await ledger.close()


def _to_its_end(text: str) -> None:
    """Write, or go on without where the reader went away: what is lacking is still to be found out."""
    with suppress(BrokenPipeError):
        sys.stdout.write(text)
