"""A plan: files by year, time, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from polyb2.cli.output.console import console, print_named, print_table, table
from polyb2.cli.output.results import print_left_out
from polyb2.core.estimate import Estimate
from polyb2.core.units import format_duration, format_size

if TYPE_CHECKING:
    from polyb2.flow.discover.findings import Report

_HOUR_S = 3600


def print_plan(report: Report, estimate: Estimate) -> None:
    """Files that discover would queue, the time that they take, their cost."""
    out = console()
    _print_years(out, report)
    print_named(out, "nothing is listed for", report.not_published, "plan")
    print_left_out(out, report, "plan")
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
    from polyb2.flow.discover.findings import Kind

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
