"""``status``, ``files``, ``retry``, ``unqueue`` and ``rebind``: the ledger, without either store."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from polyb2.cli import options as o
from polyb2.cli.app import command, configured, ending_with, opened_ledger, write_json
from polyb2.cli.logs import print_failure
from polyb2.cli.loop import in_loop
from polyb2.core.errors import UsageError
from polyb2.core.exit_codes import ExitCode
from polyb2.core.selection import Selection
from polyb2.core.status import FAILED, WAITING, Status

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.ledger.ledger import Ledger
    from polyb2.ledger.rows import Filter, History
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

    if watch:
        in_loop(_refresh(look, as_json=as_json))
    report = in_loop(look())
    if as_json:
        write_json(report.as_json())
        return
    from polyb2.cli.output.status_view import print_status

    print_status(report)
    if missing:
        typer.echo(f"there is no ledger at {missing[0]} yet: that is where DATABASE_URL points")


async def _refresh(look: Callable[[], Awaitable[StatusReport]], *, as_json: bool) -> NoReturn:
    """Print it again and again, until a signal comes; an object a line, or for people."""
    import asyncio

    if not as_json:
        from polyb2.cli.output.status_view import watch_status

        await watch_status(look, REFRESH_S)
    while True:
        typer.echo(json.dumps((await look()).as_json()))
        await asyncio.sleep(REFRESH_S)


@command("polyb2 files --status permanent_failure --json    or, one history: polyb2 files KEY")
def files(
    choice: o.RowFilter,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Rows of the ledger, filtered; with KEYs the whole history of those files."""
    settings = configured()
    selection, rows = _rows(choice)
    if not choice.keys:
        in_loop(_print_files(settings, selection, rows, as_json=as_json))
        return
    found = in_loop(_histories(settings, choice.keys))
    histories = [item for item in found.values() if item is not None and rows.takes(item.file, selection)]
    with _naming_unknown([key for key, history in found.items() if history is None]):
        for history in histories:
            if as_json:
                typer.echo(json.dumps(history.as_json()))
            else:
                from polyb2.cli.output.file_view import print_history

                print_history(history)


async def _print_files(settings: Settings, selection: Selection, rows: Filter, *, as_json: bool) -> None:
    async with opened_ledger(settings) as ledger:
        files = ledger.files(selection, rows)
        if as_json:
            async for row in files:
                typer.echo(json.dumps(row.as_json()))
        else:
            from polyb2.cli.output.file_view import print_files

            await print_files(files)


async def _histories(settings: Settings, keys: list[str]) -> dict[str, History | None]:
    async with opened_ledger(settings) as ledger:
        return {key: await ledger.history(key) for key in keys}


@command("polyb2 retry --status permanent_failure --dataset us_stocks_sip/day_aggs_v1")
def retry(choice: o.RowFilter) -> None:
    """Put failed or parked rows back; not_entitled ones only with --status not_entitled."""
    rows = _rows(choice, FAILED, FAILED - {Status.NOT_ENTITLED}, "only failed or parked rows can be retried")
    _change(lambda ledger: ledger.requeue(*rows), choice.keys or [], "{} files put back into the queue")


@command("polyb2 unqueue --dataset us_options_opra/quotes_v1")
def unqueue(choice: o.RowFilter) -> None:
    """Take waiting rows out again; discover can queue them again. What verify --repair queued stays."""
    rows = _rows(choice, WAITING, WAITING, "only waiting rows can be unqueued")
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


def _rows(
    choice: o.RowFilter,
    allowed: frozenset[Status] = frozenset(Status),
    default: frozenset[Status] = frozenset(),
    refusal: str = "",
) -> tuple[Selection, Filter]:
    """The rows that the options choose; of ``default`` where they name no status, and of ``allowed`` at most."""
    from polyb2.ledger.rows import Filter

    statuses = choice.statuses() or default
    if not statuses <= allowed:
        raise UsageError(f"{refusal}: --status is one of {', '.join(sorted(allowed))}")
    return choice.selection(), Filter(statuses, frozenset(choice.keys or ()))


def _change(act: Callable[[Ledger], Awaitable[int]], keys: Sequence[str], words: str) -> None:
    """Change rows and print how many; a key that the ledger does not have is named, and the others are acted on."""
    from polyb2.cli.output.console import print_line

    settings = configured()

    async def work() -> tuple[int, list[str]]:
        async with opened_ledger(settings, read_only=False) as ledger:
            unknown = await ledger.unknown_keys(keys) if keys else []
            return await act(ledger), unknown

    changed, unknown = in_loop(work())
    with _naming_unknown(unknown):
        print_line(words.format(changed))


@contextmanager
def _naming_unknown(keys: Sequence[str]) -> Iterator[None]:
    """Name the keys that the ledger does not have, print the rest within the block, and end with the code for it."""
    for key in keys:
        print_failure(f"the ledger has no {key}: run polyb2 discover for its date and dataset", ExitCode.UNFINISHED)
    with ending_with(ExitCode.UNFINISHED if keys else ExitCode.DONE):
        yield
