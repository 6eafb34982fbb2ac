"""``discover``, ``run`` and ``sync``: what lists the source and what carries the bytes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import typer

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.cli.prompt import confirm
from polyb2.cli.verdict import ending_with
from polyb2.core.errors import UsageError
from polyb2.core.selection import Selection
from polyb2.threads import are_plenty

if TYPE_CHECKING:
    import asyncio

    from polyb2.config import Settings
    from polyb2.engine import RunResult
    from polyb2.flow.discover.consent import Consent
    from polyb2.flow.discover.findings import Report

FAILED = 3


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog="Example: polyb2 discover --dates 2024-01-02 --dataset 'us_stocks_sip/*'")(discover)
    app.command(epilog="Example: polyb2 run --concurrency 32    or, as a service: polyb2 run --watch")(run)
    app.command(epilog="Example: polyb2 sync --dates 2024-01-02..2024-01-31 --concurrency 16")(sync)


def discover(
    dates: o.Dates = None,
    historical: o.Historical = False,
    daily: o.Daily = False,
    start_date: o.StartDate = None,
    end_date: o.EndDate = None,
    lookback_days: o.Lookback = None,
    dataset: o.Datasets = None,
    yes: o.Yes = False,
    as_json: o.Json = False,
) -> None:
    """List the source, queue what the mirror lacks or has in an older revision."""
    settings = configured()
    selection = o.select(
        dates, historical, daily, start_date, end_date, lookback_days, dataset, defaults=settings.datasets
    )
    set_up_logging(settings.log_level)
    _print_report(in_loop(_discover(settings, selection, _consent(settings, yes=yes))), as_json)


def run(
    concurrency: o.Concurrency = None,
    max_bandwidth: o.MaxBandwidth = None,
    limit: o.Limit = None,
    watch: o.Watch = False,
    yes: o.Yes = False,
) -> None:
    """Drain the queue, then exit; with --watch stay up and discover on a schedule."""
    settings = configured(polyb2_concurrency=concurrency, polyb2_max_bandwidth=max_bandwidth)
    _run(settings, None, limit=limit, watch=watch, yes=yes)


def sync(
    dates: o.Dates = None,
    historical: o.Historical = False,
    daily: o.Daily = False,
    start_date: o.StartDate = None,
    end_date: o.EndDate = None,
    lookback_days: o.Lookback = None,
    dataset: o.Datasets = None,
    concurrency: o.Concurrency = None,
    max_bandwidth: o.MaxBandwidth = None,
    limit: o.Limit = None,
    watch: o.Watch = False,
    yes: o.Yes = False,
) -> None:
    """Discover and run at once: workers start while the listing goes on."""
    settings = configured(polyb2_concurrency=concurrency, polyb2_max_bandwidth=max_bandwidth)
    selection = o.select(
        dates, historical, daily, start_date, end_date, lookback_days, dataset, defaults=settings.datasets
    )
    _run(settings, selection, limit=limit, watch=watch, yes=yes)


def _run(settings: Settings, selection: Selection | None, *, limit: int | None, watch: bool, yes: bool) -> None:
    from polyb2.cli.show.output import print_outcome, print_report
    from polyb2.cli.show.progress import Progress
    from polyb2.engine import RunOptions
    from polyb2.engine import run as run_engine

    if watch and limit:
        raise UsageError("--watch stays up and --limit ends: choose one")
    loop_factory = _fastest_loop()
    progress = Progress()
    set_up_logging(settings.log_level, progress.console)
    consent = _consent(settings, yes=yes, aside=progress.aside)
    wanted = RunOptions(selection, watch, limit, consent, progress.start)

    async def work() -> RunResult:
        try:
            return await run_engine(settings, wanted)
        finally:
            await progress.stop()

    result = in_loop(work(), loop_factory)
    with ending_with(_exit_code(result, watch=watch)):
        if result.report is not None:
            print_report(result.report)
        print_outcome(result.outcome, result.seconds)


def _exit_code(result: RunResult, *, watch: bool) -> int:
    if result.signal is not None:
        return 0 if watch else 128 + result.signal
    return FAILED if result.outcome.unfinished else 0


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where that is installed (``polyb2[speed]``) and has its threads, else asyncio's own."""
    if not are_plenty():
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _discover(settings: Settings, selection: Selection, consent: Consent) -> Report:
    from polyb2.flow.discover.consent import discover as discover_with
    from polyb2.flow.discover.discovery import Discovery
    from polyb2.notify.messages import revised
    from polyb2.notify.notifier import notify_once
    from polyb2.opening import open_mirror

    replaced: list[str] = []
    async with open_mirror(settings) as mirror:
        mirror.on_revised = replaced.append
        report = await discover_with(Discovery(mirror, selection), consent)
    await notify_once(settings, [revised(key) for key in replaced])
    return report


def _consent(
    settings: Settings, *, yes: bool, aside: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Consent:
    """What may be queued; where there is a terminal it is asked for, with the display moved ``aside``."""
    from polyb2.flow.discover.consent import Consent

    async def ask(words: str) -> bool:
        with aside():
            return await confirm(f"{words}. Queue them?")

    at_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    return Consent(settings.polyb2_max_plan_bytes, given=yes, ask=ask if at_terminal else None)


def _print_report(report: Report, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        from polyb2.cli.show.output import print_report

        print_report(report)
