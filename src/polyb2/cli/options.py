"""The options that several commands share: one by one, and the bundles by which files are chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from polyb2.clock import Clock
from polyb2.core.errors import UsageError
from polyb2.core.selection import (
    EVERYTHING,
    LOOKBACK_DAYS,
    Mode,
    Selection,
    daily,
    historical,
    named_dates,
    parse_date,
    split_datasets,
)
from polyb2.core.status import Status
from polyb2.core.units import OneOf, Within, parse_whole

_MOST = 10**9


def read(option: str, parse: Callable[[str], object]) -> Callable[[str], Any]:
    """Parse the value of an option; the library would refuse a wrong one in words that are not for users."""

    def parsed(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None

    return parsed


def _whole(option: str, least: int) -> Callable[[str], int]:
    return read(option, Within(least, _MOST, parse_whole, name="a whole number"))


Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        metavar="DATASETS",
        help="us_stocks_sip/day_aggs_v1, comma-separated, or a glob like 'us_stocks_sip/*'.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Queue even more than POLYB2_MAX_PLAN_BYTES.")]
Require = Annotated[
    str | None,
    typer.Option(
        "--require",
        parser=read("--require", OneOf(("complete",))),
        metavar="complete",
        autocompletion=lambda: ["complete"],
        help="Exit 3 unless the mirror has these dates of all chosen datasets.",
    ),
]


# Tables: a line for the kind and one for the meaning.
# fmt: off
@dataclass(frozen=True, slots=True)
class Running:
    """The options of a command that carries files."""

    concurrency: Annotated[str | None, typer.Option("--concurrency", metavar="N",
        help="Streams of this process, 1 to 1024 (32).")] = None
    max_bandwidth: Annotated[str | None, typer.Option("--max-bandwidth", metavar="RATE",
        help="Bytes per second of all streams: 50M, 08:00-18:00=50M,*=0; 0 is no limit.")] = None
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", parser=_whole("--limit", 1),
        help="Claim that many files, then end.")] = None
    watch: Annotated[bool, typer.Option("--watch",
        help="Stay up: discover on a schedule, never exit by itself.")] = False
    yes: Yes = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The options by which a command that lists chooses files."""

    dates: Annotated[list[str] | None, typer.Option("--dates", metavar="DATES",
        help="Dates in the files' names: 2024-01-02, comma-separated, 2024-01-02..2024-01-31.")] = None
    historical: Annotated[bool, typer.Option("--historical",
        help="All dates, or those from --start-date to --end-date.")] = False
    daily: Annotated[bool, typer.Option("--daily",
        help="The last days, by US Eastern time (the default).")] = False
    start_date: Annotated[str | None, typer.Option("--start-date", "--start_date", metavar="DATE",
        help="First date of --historical.")] = None
    end_date: Annotated[str | None, typer.Option("--end-date", "--end_date", metavar="DATE",
        help="Last date of --historical, included.")] = None
    lookback_days: Annotated[int | None, typer.Option("--lookback-days", metavar="N",
        parser=_whole("--lookback-days", 0), help=f"Days that --daily looks back ({LOOKBACK_DAYS}).")] = None
    dataset: Datasets = None
    # fmt: on

    def selection(self, defaults: tuple[str, ...] | None = None) -> Selection:
        """The selection that the options name.

        Args:
            defaults: the datasets where none are named; None for a filter, where no option means everything.

        Raises:
            UsageError: the options contradict each other or do not parse.
        """
        self._check()
        patterns = split_datasets(self.dataset or []) or defaults or ()
        if self.dates:
            return named_dates(self.dates, patterns)
        if self.historical:
            named = ((self.start_date, "--start-date"), (self.end_date, "--end-date"))
            first, last = (None if text is None else parse_date(text, option) for text, option in named)
            return historical(first, last, patterns)
        if defaults is None and not self.daily and self.lookback_days is None:
            return Selection(Mode.EVERYTHING, patterns) if patterns else EVERYTHING
        return daily(Clock().today(), LOOKBACK_DAYS if self.lookback_days is None else self.lookback_days, patterns)

    def _check(self) -> None:
        modes = {"--dates": self.dates, "--historical": self.historical, "--daily": self.daily}
        chosen = [name for name, on in modes.items() if on]
        if len(chosen) > 1:
            raise UsageError(f"{' and '.join(chosen)} exclude each other: choose one")
        if (self.start_date, self.end_date) != (None, None) and not self.historical:
            raise UsageError("--start-date and --end-date go with --historical: add it, or write --dates FIRST..LAST")
        if self.lookback_days is not None and (self.dates or self.historical):
            raise UsageError("--lookback-days goes with --daily: leave --dates and --historical out")


@dataclass(frozen=True, slots=True)
class Filter(Choice):
    """The same as a filter of what is known: no option means everything."""

    daily: Annotated[
        bool, typer.Option("--daily", help="The last days, by US Eastern time. Without any of these: all dates.")
    ] = False


@dataclass(frozen=True, slots=True)
class RowFilter(Filter):
    """A filter of the ledger's rows, with their statuses and keys."""

    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY", help="Keys of files; none means all that the options choose.")
    ] = None
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="Only rows with this status; repeatable.")
    ] = None

    def statuses(self) -> frozenset[Status]:
        """The statuses that are named.

        Raises:
            UsageError: one is not known.
        """
        names = [name.strip() for word in self.status or [] for name in word.split(",") if name.strip()]
        if self.status and not names:
            raise UsageError("--status is empty: write --status failed_upload, or leave it out")
        try:
            return frozenset(Status(name) for name in names)
        except ValueError as error:
            raise UsageError(f"--status: {error}; it is one of {', '.join(Status)}") from None
