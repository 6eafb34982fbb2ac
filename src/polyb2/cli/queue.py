"""``status``, ``files``, ``retry``, ``unqueue`` and ``rebind``: the ledger, without either store."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.cli.verdict import UNKNOWN_KEY, ending_with, tell_unknown_key
from polyb2.core.errors import UsageError
from polyb2.core.status import FAILED, WAITING, Status

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.ledger.ledger import Ledger
    from polyb2.ledger.status_report import StatusReport

T = TypeVar("T")
REFRESH_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog="Example: polyb2 status    or, to keep it in view: polyb2 status --watch")(status)
    app.command(epilog="Example: polyb2 files --status permanent_failure --json    or, one story: polyb2 files KEY")(
        files
    )
    app.command(epilog="Example: polyb2 retry --status permanent_failure --dataset us_stocks_sip/day_aggs_v1")(retry)
    app.command(epilog="Example: polyb2 unqueue --dataset us_options_opra/quotes_v1")(unqueue)
    app.command(epilog="Example: POLYGON_S3_ENDPOINT_URL=https://files.massive.com polyb2 rebind")(rebind)


def status(
    as_json: o.Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds.")] = False,
) -> None:
    """Counts and bytes by dataset and status, rate, ETA, files in flight, last errors."""
    settings = configured()

    missing: list[str] = []

    async def observe(ledger: Ledger) -> StatusReport:
        missing[:] = [] if ledger.exists else [ledger.place]
        return await ledger.status()

    async def look() -> StatusReport:
        return await _reading(settings, observe)

    in_loop(_tell_status(look, watch=watch) if as_json else _show_status(look, watch=watch))
    if missing and not as_json:
        typer.echo(f"there is no ledger at {missing[0]} yet: that is where DATABASE_URL points")


async def _show_status(look: Callable[[], Awaitable[StatusReport]], *, watch: bool) -> None:
    from polyb2.cli.show.standing import print_status, watch_status

    if watch:
        await watch_status(look, REFRESH_S)
    else:
        print_status(await look())


async def _tell_status(look: Callable[[], Awaitable[StatusReport]], *, watch: bool) -> None:
    """An object, or one a line again and again."""
    import asyncio

    while True:
        report = await look()
        typer.echo(json.dumps(report.as_json(), indent=None if watch else 2))
        sys.stdout.flush()
        if not watch:
            return
        await asyncio.sleep(REFRESH_S)


def files(
    keys: o.Keys = None,
    status: o.Statuses = None,
    dates: o.Dates = None,
    historical: o.Historical = False,
    daily: o.DailyOf = False,
    start_date: o.StartDate = None,
    end_date: o.EndDate = None,
    lookback_days: o.Lookback = None,
    dataset: o.Datasets = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Rows of the ledger, filtered; with KEYs the whole story of those files."""
    from polyb2.ledger.rows import Filter

    settings = configured()
    selection = o.select(dates, historical, daily, start_date, end_date, lookback_days, dataset, defaults=None)
    wanted = Filter(_statuses(status), frozenset(keys or ()))

    async def show(ledger: Ledger) -> int:
        if keys:
            from polyb2.cli.show.story import tell_stories

            return await tell_stories(ledger, keys, lambda file: wanted.takes(file, selection), as_json=as_json)
        rows = ledger.files(selection, wanted)
        if as_json:
            async for row in rows:
                typer.echo(json.dumps(row.as_json()))
        else:
            from polyb2.cli.show.output import print_files

            await print_files(rows)
        return 0

    if code := in_loop(_reading(settings, show)):
        raise typer.Exit(code)


def retry(
    keys: o.Keys = None,
    status: o.Statuses = None,
    dates: o.Dates = None,
    historical: o.Historical = False,
    daily: o.DailyOf = False,
    start_date: o.StartDate = None,
    end_date: o.EndDate = None,
    lookback_days: o.Lookback = None,
    dataset: o.Datasets = None,
) -> None:
    """Put failed or parked rows back; not_entitled ones only with --status not_entitled."""
    from polyb2.ledger.rows import Filter

    wanted = _statuses(status) or FAILED - {Status.NOT_ENTITLED}
    if not wanted <= FAILED:
        raise UsageError(f"only failed or parked rows can be retried: --status is one of {', '.join(sorted(FAILED))}")
    selection = o.select(dates, historical, daily, start_date, end_date, lookback_days, dataset, defaults=None)
    wanted_rows = Filter(wanted, frozenset(keys or ()))
    _change(lambda ledger: ledger.requeue(selection, wanted_rows), keys or [], "{} files put back into the queue")


def unqueue(
    keys: o.Keys = None,
    status: o.Statuses = None,
    dates: o.Dates = None,
    historical: o.Historical = False,
    daily: o.DailyOf = False,
    start_date: o.StartDate = None,
    end_date: o.EndDate = None,
    lookback_days: o.Lookback = None,
    dataset: o.Datasets = None,
) -> None:
    """Take waiting rows out again; discover can queue them anew. What verify --repair queued stays."""
    from polyb2.ledger.rows import Filter

    wanted = _statuses(status) or WAITING
    if not wanted <= WAITING:
        raise UsageError(f"only waiting rows can be unqueued: --status is one of {', '.join(sorted(WAITING))}")
    selection = o.select(dates, historical, daily, start_date, end_date, lookback_days, dataset, defaults=None)
    wanted_rows = Filter(wanted, frozenset(keys or ()))
    _change(lambda ledger: ledger.unqueue(selection, wanted_rows), keys or [], "{} files taken out of the queue")


def rebind() -> None:
    """Tell the ledger that its source or target endpoint has a new name."""
    from polyb2.cli.show.output import say
    from polyb2.opening import binding_of

    settings = configured()
    settings.require_remote()
    in_loop(_writing(settings, lambda ledger: ledger.rebind(binding_of(settings))))
    say(f"the ledger now belongs to {settings.polygon_s3_endpoint_url} and {settings.b2_endpoint_url}")


def _change(act: Callable[[Ledger], Awaitable[int]], keys: Sequence[str], words: str) -> None:
    """Change rows and say how many; a key that the ledger does not have is named, and the others are acted on.

    Raises:
        typer.Exit: a key is not in the ledger.
    """
    from polyb2.cli.show.output import say

    async def work(ledger: Ledger) -> tuple[int, list[str]]:
        unknown = await ledger.unknown_keys(keys) if keys else []
        return await act(ledger), unknown

    changed, unknown = in_loop(_writing(configured(), work))
    with ending_with(UNKNOWN_KEY if unknown else 0):
        for key in unknown:
            tell_unknown_key(key)
        say(words.format(changed))


async def _reading(settings: Settings, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """Run ``work`` on the ledger opened read-only."""
    from polyb2.ledger.open import open_ledger

    set_up_logging(settings.log_level)
    ledger = await open_ledger(settings.database_url, read_only=True)
    try:
        return await work(ledger)
    finally:
        await ledger.close()


async def _writing(settings: Settings, work: Callable[[Ledger], Awaitable[T]]) -> T:
    from polyb2.ledger.open import open_ledger

    set_up_logging(settings.log_level)
    ledger = await open_ledger(settings.database_url, make_new=False)
    try:
        if not ledger.exists:
            raise UsageError(f"there is no ledger at {ledger.place} yet: run polyb2 discover first")
        return await work(ledger)
    finally:
        await ledger.close()


def _statuses(words: list[str] | None) -> frozenset[Status]:
    names = [name.strip() for word in words or [] for name in word.split(",") if name.strip()]
    if words and not names:
        raise UsageError("--status is empty: write --status failed_upload, or leave it out")
    try:
        return frozenset(Status(name) for name in names)
    except ValueError as error:
        raise UsageError(f"--status: {error}; it is one of {', '.join(Status)}") from None
