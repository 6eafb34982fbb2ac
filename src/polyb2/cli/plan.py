"""``plan``: what discover would queue, how long it takes, what it costs; queues nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.core.errors import UsageError
from polyb2.core.selection import Selection
from polyb2.core.status import WAITING, Status
from polyb2.core.units import parse_size

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.core.estimate import Estimate, Rate
    from polyb2.core.prices import Prices
    from polyb2.flow.discover.findings import Report
    from polyb2.flow.mirror import Mirror


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
    from polyb2.core.estimate import Rate

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
        from polyb2.cli.show.plan import print_plan

        print_plan(report, estimate)
    report.check()


async def _survey(
    settings: Settings, selection: Selection, given: Rate | None, prices: Prices
) -> tuple[Report, Estimate]:
    from polyb2.flow.discover.discovery import Discovery
    from polyb2.opening import open_mirror

    async with open_mirror(settings, read_only=True) as mirror:
        report = await Discovery(mirror, selection).survey()
        return report, await _estimate(mirror, report, given, prices, settings.polyb2_max_plan_bytes)


async def _estimate(mirror: Mirror, report: Report, given: Rate | None, prices: Prices, bytes_max: int) -> Estimate:
    from polyb2.core.estimate import Estimate, measured
    from polyb2.flow.discover.findings import Kind

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
