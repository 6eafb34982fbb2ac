"""The options that several commands share, and the selection that they make."""

from __future__ import annotations

from typing import Annotated

import typer

from polyb2.clock import Clock
from polyb2.core.errors import UsageError
from polyb2.core.selection import (
    EVERYTHING,
    Mode,
    Selection,
    daily,
    historical,
    named_dates,
    parse_date,
    split_datasets,
)

LOOKBACK_DAYS = 7

Dates = Annotated[
    list[str] | None,
    typer.Option("--dates", help="Dates in the files' names: 2024-01-02, comma-separated, 2024-01-02..2024-01-31."),
]
Historical = Annotated[bool, typer.Option("--historical", help="All dates, or those from --start-date to --end-date.")]
Daily = Annotated[bool, typer.Option("--daily", help="The last days, by US Eastern time (the default).")]
DailyOf = Annotated[
    bool, typer.Option("--daily", help="The last days, by US Eastern time. Without any of these: all dates.")
]
"""For what filters rows, where no filter means everything."""
StartDate = Annotated[str | None, typer.Option("--start-date", "--start_date", help="First date of --historical.")]
EndDate = Annotated[str | None, typer.Option("--end-date", "--end_date", help="Last date of --historical, included.")]
Lookback = Annotated[
    int | None, typer.Option("--lookback-days", min=0, help=f"Days that --daily looks back ({LOOKBACK_DAYS}).")
]
Datasets = Annotated[
    list[str] | None,
    typer.Option("--dataset", help="us_stocks_sip/day_aggs_v1, comma-separated, or a glob like 'us_stocks_sip/*'."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Queue even more than POLYB2_MAX_PLAN_BYTES.")]
Statuses = Annotated[list[str] | None, typer.Option("--status", help="Only rows with this status; repeatable.")]
Keys = Annotated[list[str] | None, typer.Argument(help="Keys of files; none means all that the options choose.")]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=1, max=1024, help="Streams of this process (32).")
]
MaxBandwidth = Annotated[
    str | None,
    typer.Option("--max-bandwidth", help="Bytes per second of all streams: 50M, 08:00-18:00=50M,*=0; 0 is no limit."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Claim that many files, then end.")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay up: discover on a schedule, never exit by itself.")]


def select(
    dates: list[str] | None,
    historical_mode: bool,
    daily_mode: bool,
    start: str | None,
    end: str | None,
    lookback: int | None,
    datasets: list[str] | None,
    *,
    defaults: tuple[str, ...] | None,
) -> Selection:
    """The selection that the options name.

    Args:
        dates: words of ``--dates``.
        historical_mode: ``--historical``.
        daily_mode: ``--daily``.
        start: ``--start-date``.
        end: ``--end-date``.
        lookback: ``--lookback-days``.
        datasets: words of ``--dataset``.
        defaults: the datasets where none are named; None for a filter, where no option means everything.

    Raises:
        UsageError: the options contradict each other or do not parse.
    """
    modes = [
        name for name, on in (("--dates", dates), ("--historical", historical_mode), ("--daily", daily_mode)) if on
    ]
    if len(modes) > 1:
        raise UsageError(f"{' and '.join(modes)} exclude each other: choose one")
    if (start or end) and not historical_mode:
        raise UsageError("--start-date and --end-date go with --historical: add it, or write --dates FIRST..LAST")
    if lookback is not None and (dates or historical_mode):
        raise UsageError("--lookback-days goes with --daily: leave --dates and --historical out")
    patterns = split_datasets(datasets or []) or defaults or ()
    if dates:
        return named_dates(dates, patterns)
    if historical_mode:
        first = parse_date(start, "--start-date") if start else None
        return historical(first, parse_date(end, "--end-date") if end else None, patterns)
    if defaults is None and not daily_mode and lookback is None:
        return Selection(Mode.EVERYTHING, patterns) if patterns else EVERYTHING
    return daily(Clock().today(), LOOKBACK_DAYS if lookback is None else lookback, patterns)
