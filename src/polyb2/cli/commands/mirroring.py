"""``discover``, ``run`` and ``sync``: list the source, and carry the bytes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from polyb2.cli import options as o
from polyb2.cli.app import command, configured, ending_with, write_json
from polyb2.cli.loop import confirm, in_loop
from polyb2.core.errors import UsageError
from polyb2.core.exit_codes import ExitCode
from polyb2.core.selection import Selection

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.engine import RunResult
    from polyb2.flow.discover.consent import Consent
    from polyb2.flow.discover.findings import Report


@command("polyb2 discover --dates 2024-01-02 --dataset 'us_stocks_sip/*'")
def discover(choice: o.Choice, yes: o.Yes = False, as_json: o.Json = False) -> None:
    """List the source, queue what the mirror lacks or has in an older revision."""
    settings = configured()
    selection = choice.selection(settings.discovery.datasets)
    report = in_loop(_discover(settings, selection, _consent(settings, yes=yes)))
    if as_json:
        write_json(report.as_json())
    else:
        from polyb2.cli.output.results import print_report

        print_report(report)


@command("polyb2 run --concurrency 32    or, as a service: polyb2 run --watch")
def run(given: o.Running) -> None:
    """Drain the queue, then exit; with --watch stay up and discover on a schedule."""
    _run(given, None)


@command("polyb2 sync --dates 2024-01-02..2024-01-31 --concurrency 16")
def sync(choice: o.Choice, given: o.Running) -> None:
    """Discover and run at once: workers start while the listing goes on."""
    _run(given, choice)


def _run(given: o.Running, choice: o.Choice | None) -> None:
    from polyb2.cli.output.progress import Progress
    from polyb2.cli.output.results import print_run
    from polyb2.engine import RunOptions
    from polyb2.engine import run as run_engine

    settings = configured(polyb2_concurrency=given.concurrency, polyb2_max_bandwidth=given.max_bandwidth)
    selection = choice.selection(settings.discovery.datasets) if choice is not None else None
    if given.watch and given.limit:
        raise UsageError("--watch stays up and --limit ends: choose one")

    async def work() -> RunResult:
        async with Progress(settings.log.level) as progress:
            consent = _consent(settings, yes=given.yes, aside=progress.aside)
            wanted = RunOptions(selection, given.watch, given.limit, consent, progress.start)
            return await run_engine(settings, wanted)

    result = in_loop(work(), fastest=True)
    with ending_with(_exit_code(result, watch=given.watch)):
        print_run(result)


def _exit_code(result: RunResult, *, watch: bool) -> ExitCode:
    if result.signal is not None:
        return ExitCode.DONE if watch else ExitCode.of_signal(result.signal)
    return ExitCode.UNFINISHED if result.outcome.unfinished else ExitCode.DONE


async def _discover(settings: Settings, selection: Selection, consent: Consent) -> Report:
    from polyb2.flow.discover.consent import discover as discover_with
    from polyb2.flow.discover.discovery import Discovery
    from polyb2.notify.messages import revised
    from polyb2.notify.notifier import notify_once
    from polyb2.session import open_mirror

    replaced: list[str] = []
    async with open_mirror(settings, on_revised=replaced.append) as mirror:
        report = await discover_with(Discovery(mirror, selection), consent)
    await notify_once(settings, [revised(key) for key in replaced])
    return report


def _consent(
    settings: Settings, *, yes: bool, aside: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Consent:
    """Consent to queue: on a terminal it is asked for, with the display moved ``aside``."""
    from polyb2.flow.discover.consent import Consent

    async def ask(words: str) -> bool:
        with aside():
            return await confirm(f"{words}. Queue them?")

    at_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    return Consent(settings.discovery.max_plan_bytes, given=yes, ask=ask if at_terminal else None)
