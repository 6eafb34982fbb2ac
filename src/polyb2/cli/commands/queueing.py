"""``status``, ``files``, ``retry``, ``unqueue`` and ``rebind``: the ledger, without either store."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from polyb2.cli import options as o
from polyb2.cli.app import command, configured, ending_with, opened_ledger
from polyb2.cli.loop import in_loop
from polyb2.core.errors import UsageError
from polyb2.core.exit_codes import ExitCode
from polyb2.core.selection import Selection
from polyb2.core.status import FAILED, WAITING, Status

if TYPE_CHECKING:
    from polyb2.ledger.ledger import Ledger
    from polyb2.ledger.rows import Filter
    from polyb2.ledger.status_report import StatusReport

REFRESH_S = 2.0


@command("polyb2 status    or, to keep it in view: polyb2 status --watch")
def status(
    as_json: o.Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds.")] = False,
) -> None:
    """Counts and bytes by dataset and status, rate, ETA, files in flight, last errors."""
    settings = configured()
    missing: list[str] = []

    async def look() -> StatusReport:
        async with opened_ledger(settings) as ledger:
            missing[:] = [] if ledger.exists else [ledger.place]
            return await ledger.status()

    in_loop(_write_status(look, watch=watch) if as_json else _print_status(look, watch=watch))
    if missing and not as_json:
        typer.echo(f"there is no ledger at {missing[0]} yet: that is where DATABASE_URL points")


async def _print_status(look: Callable[[], Awaitable[StatusReport]], *, watch: bool) -> None:
    from polyb2.cli.output.status_view import print_status, watch_status

    if watch:
        await watch_status(look, REFRESH_S)
    else:
        print_status(await look())


async def _write_status(look: Callable[[], Awaitable[StatusReport]], *, watch: bool) -> None:
    """An object, or one a line again and again."""
    import asyncio

    while True:
        report = await look()
        typer.echo(json.dumps(report.as_json(), indent=None if watch else 2))
        sys.stdout.flush()
        if not watch:
            return
        await asyncio.sleep(REFRESH_S)


@command("polyb2 files --status permanent_failure --json    or, one history: polyb2 files KEY")
def files(
    choice: o.RowFilter,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Rows of the ledger, filtered; with KEYs the whole history of those files."""
    settings = configured()
    wanted = _rows(choice, choice.statuses())

    async def work() -> ExitCode:
        async with opened_ledger(settings) as ledger:
            return await _print_files(ledger, wanted, choice.keys, as_json=as_json)

    if code := in_loop(work()):
        raise typer.Exit(code)


async def _print_files(
    ledger: Ledger, wanted: tuple[Selection, Filter], keys: list[str] | None, *, as_json: bool
) -> ExitCode:
    selection, rows = wanted
    if keys:
        from polyb2.cli.output.file_history import print_histories

        return await print_histories(ledger, keys, lambda file: rows.takes(file, selection), as_json=as_json)
    files = ledger.files(selection, rows)
    if as_json:
        async for row in files:
            typer.echo(json.dumps(row.as_json()))
    else:
        from polyb2.cli.output.results import print_files

        await print_files(files)
    return ExitCode.DONE


@command("polyb2 retry --status permanent_failure --dataset us_stocks_sip/day_aggs_v1")
def retry(choice: o.RowFilter) -> None:
    """Put failed or parked rows back; not_entitled ones only with --status not_entitled."""
    wanted = choice.statuses() or FAILED - {Status.NOT_ENTITLED}
    if not wanted <= FAILED:
        raise UsageError(f"only failed or parked rows can be retried: --status is one of {', '.join(sorted(FAILED))}")
    rows = _rows(choice, wanted)
    _change(lambda ledger: ledger.requeue(*rows), choice.keys or [], "{} files put back into the queue")


@command("polyb2 unqueue --dataset us_options_opra/quotes_v1")
def unqueue(choice: o.RowFilter) -> None:
    """Take waiting rows out again; discover can queue them again. What verify --repair queued stays."""
    wanted = choice.statuses() or WAITING
    if not wanted <= WAITING:
        raise UsageError(f"only waiting rows can be unqueued: --status is one of {', '.join(sorted(WAITING))}")
    rows = _rows(choice, wanted)
    _change(lambda ledger: ledger.unqueue(*rows), choice.keys or [], "{} files taken out of the queue")


@command("POLYGON_S3_ENDPOINT_URL=https://files.massive.com polyb2 rebind")
def rebind() -> None:
    """Tell the ledger that its source or target endpoint has a new name."""
    from polyb2.cli.output.console import print_line
    from polyb2.session import binding_of

    settings = configured()
    settings.require_remote()

    async def work() -> None:
        async with opened_ledger(settings, read_only=False) as ledger:
            await ledger.rebind(binding_of(settings))

    in_loop(work())
    print_line(f"the ledger now belongs to {settings.source.endpoint_url} and {settings.target.endpoint_url}")


def _rows(choice: o.RowFilter, statuses: frozenset[Status]) -> tuple[Selection, Filter]:
    from polyb2.ledger.rows import Filter

    return choice.selection(), Filter(statuses, frozenset(choice.keys or ()))


def _change(act: Callable[[Ledger], Awaitable[int]], keys: Sequence[str], words: str) -> None:
    """Change rows and print how many; a key that the ledger does not have is named, and the others are acted on."""
    from polyb2.cli.output.console import print_line
    from polyb2.cli.output.file_history import print_unknown_key

    settings = configured()

    async def work() -> tuple[int, list[str]]:
        async with opened_ledger(settings, read_only=False) as ledger:
            unknown = await ledger.unknown_keys(keys) if keys else []
            return await act(ledger), unknown

    changed, unknown = in_loop(work())
    with ending_with(ExitCode.UNFINISHED if unknown else ExitCode.DONE):
        for key in unknown:
            print_unknown_key(key)
        print_line(words.format(changed))
