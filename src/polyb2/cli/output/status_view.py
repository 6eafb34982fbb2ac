"""``status`` on a terminal and in a pipe: the state of the ledger, once, or refreshed in place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from polyb2.cli.output.console import COLOURS, NAMED_MAX, console, dataset_table, indented
from polyb2.cli.output.frame import elided
from polyb2.core.status import Status
from polyb2.core.units import format_duration, format_size

if TYPE_CHECKING:
    from polyb2.ledger.status_report import Failure, FileAtWork, Runner, StatusReport, Tally

_WORDS = {
    Status.PROCESSING: "in work",
    Status.FAILED_DOWNLOAD: "failed",
    Status.FAILED_UPLOAD: "failed",
    Status.PERMANENT_FAILURE: "parked",
    Status.NOT_ENTITLED: "parked",
}
"""Names for which a narrow terminal has room."""


def print_status(report: StatusReport) -> None:
    """Counts by dataset and status, files in flight, and the last errors."""
    out = console()
    out.print(_view(out, report))


async def watch_status(look: Callable[[], Awaitable[StatusReport]], every_s: float) -> NoReturn:
    """Refresh in place on a terminal, on a screen of its own; elsewhere one after the other. Ends by a signal."""
    out = console()
    if not out.is_terminal or out.is_dumb_terminal:
        while True:
            print_status(await look())
            await asyncio.sleep(every_s)
    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(_view(out, await look()), refresh=True)
            await asyncio.sleep(every_s)


def _view(out: Console, report: StatusReport) -> RenderableType:
    lines: list[RenderableType] = [_table(out, report), *_speed(report), *map(_runner, report.runners)]
    lines += [_in_flight(out, item) for item in report.in_flight[:NAMED_MAX]]
    if len(report.in_flight) > NAMED_MAX:
        lines.append(Text(f"in flight: {len(report.in_flight) - NAMED_MAX} more (--json names them)"))
    for item in report.last_errors:
        lines += _error(out, item)
    if report.held.files:
        lines.append(Text(f"held: {report.held.words}", style="yellow"))
    if not report.totals.files:
        lines.append(Text("the ledger has no files yet: run polyb2 discover"))
    return Group(*lines)


def _table(out: Console, report: StatusReport) -> RenderableType:
    shown = [status for status in Status if report.totals.by_status[status]["files"]]
    named = {status: str(status) for status in shown}
    # One bold line of every status needs 100 columns and more.
    if out.width < sum(len(name) + 2 for name in shown) + len("us_futures_comex/session_aggs_v1 files bytes done") + 20:
        named = {status: _WORDS.get(status, str(status)) for status in shown}
    columns = tuple(dict.fromkeys(named.values()))
    rows = [
        (dataset, [*_counts(tally, named, columns), *_sums(tally)])
        for dataset, tally in [*report.datasets.items(), ("all", report.totals)]
    ]
    return dataset_table(out, (*columns, "files", "bytes", "done"), rows)


def _counts(tally: Tally, named: dict[Status, str], columns: tuple[str, ...]) -> list[str | Text]:
    counts: list[str | Text] = []
    for column in columns:
        held = [status for status, name in named.items() if name == column]
        count = sum(tally.by_status[status]["files"] for status in held)
        counts.append(Text(str(count), style=COLOURS.get(held[0], "") if count else "dim"))
    return counts


def _sums(tally: Tally) -> list[str | Text]:
    share = f"{100 * tally.bytes_done / tally.bytes:.1f} %" if tally.bytes else "-"
    return [str(tally.files), format_size(tally.bytes), share]


def _speed(report: StatusReport) -> list[RenderableType]:
    if report.rate_bytes_per_s is None:
        return []
    eta = f", {format_duration(report.eta_s)} left" if report.eta_s else ""
    return [Text(f"{format_size(report.rate_bytes_per_s)}/s{eta}")]


def _runner(runner: Runner) -> RenderableType:
    since = datetime.fromtimestamp(runner.started_ms / 1000, UTC)
    known = [f"{runner.worker_id} on {runner.host}", f"polyb2 {runner.version}", f"since {since:%Y-%m-%d %H:%M} UTC"]
    if runner.rate_bytes_per_s is not None:
        known.append(f"{format_size(runner.rate_bytes_per_s)}/s")
    # Before its first renewal, some seconds after its start, a process has said nothing of its streams.
    if runner.streams_allowed:
        known.append(f"{runner.streams_in_use} of {runner.streams_allowed} streams in use")
    for side, rps in (("source", runner.source_rps), ("target", runner.target_rps)):
        if rps is not None:
            known.append(f"{side} at most {rps:.3g} requests/s")
    return Text(f"running: {', '.join(known)}")


def _in_flight(out: Console, file: FileAtWork) -> RenderableType:
    share = f"{100 * file.bytes_done / file.size:3.0f} %" if file.size else "  -"
    figures = f"{share}  {format_size(file.size):>8}  "
    again = f"  attempt {file.attempt}" if file.attempt != 1 else ""
    key = file.key
    if out.is_terminal:
        key = elided(key, out.width - len(figures) - len("in flight: ") - len(again))
    return Text(f"in flight: {figures}{key}{again}")


def _error(out: Console, failure: Failure) -> list[RenderableType]:
    status, key, message = failure.status, failure.key, str(failure.error_message)
    if not out.is_terminal:
        return [Text(f"{status}: {key}: {message}")]
    line = Text(f"{status}: ", style=COLOURS.get(Status(status), ""))
    return [line.append(elided(key, out.width - len(status) - 2), style="default"), indented(message)]
