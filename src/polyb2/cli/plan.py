"""``plan``: what discover would queue, how long it takes, what it costs; queues nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.cli.output import console, print_named, print_table, table
from polyb2.core.errors import UsageError
from polyb2.core.estimate import Estimate, Rate, measured
from polyb2.core.prices import Prices
from polyb2.core.selection import Selection
from polyb2.core.status import WAITING, Status
from polyb2.core.units import format_duration, format_size, parse_size

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.flow.mirror import Mirror
    from polyb2.flow.report import Report

_HOUR_S = 3600


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog="Example: polyb2 plan --historical --start-date 2024-01-01 --dataset us_stocks_sip/trades_v1")(
        plan
    )


def plan(
    dates: o.Dates = None,
    historical: o.Historical = False,
    daily: o.Daily = False,
    start_date: o.StartDate = None,
    end_date: o.EndDate = None,
    lookback_days: o.Lookback = None,
    dataset: o.Datasets = None,
    rate: Annotated[
        str | None, typer.Option("--rate", help="Bytes per second to reckon with: 100M; else what was measured.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """What discover would queue: files, bytes, hours at a rate, B2 cost; queues nothing."""
    settings = configured()
    given = None if rate is None else Rate(_rate(rate))
    selection = o.select(
        dates, historical, daily, start_date, end_date, lookback_days, dataset, defaults=settings.datasets
    )
    prices = settings.prices
    set_up_logging(settings.log_level)
    report, estimate = in_loop(_survey(settings, selection, given, prices))
    if as_json:
        typer.echo(json.dumps({**report.as_json(), "estimate": estimate.as_json()}, indent=2))
    else:
        _print_plan(report, estimate)


async def _survey(
    settings: Settings, selection: Selection, given: Rate | None, prices: Prices
) -> tuple[Report, Estimate]:
    from polyb2.flow.discover import Discovery
    from polyb2.opening import open_mirror

    async with open_mirror(settings, read_only=True) as mirror:
        report = await Discovery(mirror, selection).survey()
        return report, await _estimate(mirror, report, given, prices, settings.polyb2_max_plan_bytes)


async def _estimate(mirror: Mirror, report: Report, given: Rate | None, prices: Prices, bytes_max: int) -> Estimate:
    from polyb2.flow.report import Kind

    by_status = (await mirror.ledger.status()).totals.by_status
    return Estimate(
        bytes_queued=report.total("bytes_queued"),
        bytes_waiting=sum(by_status[status]["bytes"] for status in WAITING | {Status.PROCESSING}),
        bytes_stored=by_status[Status.COMPLETED]["bytes"] + report.amount(Kind.ADOPTED).bytes,
        bytes_max=bytes_max,
        requests=report.requests(),
        rate=given or measured(await mirror.ledger.throughput()),
        prices=prices,
    )


def _rate(text: str) -> float:
    try:
        bytes_per_s = parse_size(text)
    except ValueError as error:
        raise UsageError(f"--rate: {error}") from None
    if not bytes_per_s:
        raise UsageError("--rate: 0 bytes per second never end; write 100M")
    return float(bytes_per_s)


def _print_plan(report: Report, estimate: Estimate) -> None:
    out = console()
    _print_years(out, report)
    print_named(out, "nothing is listed for", report.not_published)
    print_named(out, "not flat files, left alone:", report.ignored)
    out.print(f"{report.total('queued')} files to queue, {format_size(estimate.bytes_queued)}")
    if estimate.bytes_waiting:
        out.print(f"waiting in the queue already: {format_size(estimate.bytes_waiting)}")
    out.print(_time_words(estimate))
    _print_cost(out, estimate)
    limit = f"POLYB2_MAX_PLAN_BYTES ({format_size(estimate.bytes_max)})"
    if estimate.is_within_limit:
        out.print(f"within {limit}: discover queues it without asking")
    else:
        out.print(f"above {limit}: discover asks first, or needs --yes")


def _print_years(out: Console, report: Report) -> None:
    """A line a dataset and year; a column a kind of file that occurs."""
    from polyb2.flow.report import Kind

    shown = [kind for kind in Kind if kind in {Kind.NEW, Kind.MIRRORED} or report.amount(kind).files]
    heads = ["adoptable" if kind is Kind.ADOPTED else kind.value for kind in shown]
    made = table("dataset", "year", *heads, "to queue", right=(*heads, "to queue"))
    for item in report.datasets.values():
        for year, kinds in sorted(item.years.items()):
            size = format_size(kinds[Kind.NEW].bytes + kinds[Kind.REVISED].bytes)
            made.add_row(item.dataset, str(year), *(str(kinds[kind].files) for kind in shown), size)
        if not item.years:
            made.add_row(item.dataset, "-", *("0" for _ in shown), format_size(0))
    print_table(out, made)


def _time_words(estimate: Estimate) -> str:
    rate, hours = estimate.rate, estimate.hours(estimate.bytes_queued + estimate.bytes_waiting)
    if rate is None or hours is None:
        return "how long that takes is not known: no rate was measured yet; say --rate 100M"
    source = "given" if rate.measured_s is None else f"measured over {format_duration(rate.measured_s)} of work"
    return f"{format_duration(hours * _HOUR_S)} at {format_size(rate.bytes_per_s)}/s ({source})"


def _print_cost(out: Console, estimate: Estimate) -> None:
    prices, requests = estimate.prices, estimate.requests
    before, after = (prices.month(size) for size in (estimate.bytes_stored, estimate.bytes_stored_after))
    out.print(
        f"B2 storage: {format_size(estimate.bytes_stored)} now, {format_size(estimate.bytes_stored_after)} then: "
        f"{before:.2f} {prices.currency} per 30 days now, {after:.2f} then"
    )
    out.print(
        f"B2 requests: about {requests.class_a} of class A, {requests.class_b} of class B, {requests.class_c} of class C: "
        f"{requests.cost(prices):.2f} {prices.currency} (POLYB2_PRICES)"
    )
