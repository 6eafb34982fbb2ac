"""``verify`` and ``cleanup``: the ledger against what the bucket really holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.cli.verdict import ending_with
from polyb2.core.errors import UsageError
from polyb2.core.selection import Selection
from polyb2.core.units import parse_duration

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.core.records import OpenUpload
    from polyb2.flow.inspect.cleanup import Swept
    from polyb2.flow.inspect.verify import Difference, Findings, Tell

UNFINISHED = 3


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(epilog="Example: polyb2 verify --dataset us_stocks_sip/day_aggs_v1 --repair")(verify)
    app.command(epilog="Example: polyb2 cleanup --older-than 24h --dry-run")(cleanup)


def verify(
    dates: o.Dates = None,
    historical: o.Historical = False,
    daily: o.DailyOf = False,
    start_date: o.StartDate = None,
    end_date: o.EndDate = None,
    lookback_days: o.Lookback = None,
    dataset: o.Datasets = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every object back from B2 and compare.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Queue what differs.")] = False,
    as_json: o.Json = False,
) -> None:
    """Ledger against source listing against bucket; exit 3 if they differ."""
    settings = configured()
    selection = o.select(dates, historical, daily, start_date, end_date, lookback_days, dataset, defaults=None)
    set_up_logging(settings.log_level)
    shown = _Shown(as_json=as_json)
    findings = in_loop(_verify(settings, selection, shown.difference, deep=deep, mend=repair))
    with ending_with(UNFINISHED if findings.found else 0):
        shown.end(findings)


class _Shown:
    """Prints differences as they are found: JSON as one object, or a line each."""

    def __init__(self, *, as_json: bool) -> None:
        from polyb2.cli.show.output import printed_differences

        self._as_json = as_json
        self._begun = False
        self._line = printed_differences()

    def difference(self, found: Difference) -> None:
        # What the reader no longer takes is for nobody; the rest is verified, and mended, all the same.
        with suppress(BrokenPipeError):
            if self._as_json:
                self._write_json(json.dumps(found.as_json()))
            else:
                self._line(found)

    def end(self, findings: Findings) -> None:
        if self._as_json:
            self._write_json(None)
            typer.echo(f"], {json.dumps(findings.rest_as_json())[1:]}")
        else:
            from polyb2.cli.show.output import print_findings

            print_findings(findings)

    def _write_json(self, text: str | None) -> None:
        if not self._begun:
            sys.stdout.write('{"differences": [')
        elif text is not None:
            sys.stdout.write(",\n")
        self._begun = True
        sys.stdout.write(text or "")


async def _verify(settings: Settings, selection: Selection, tell: Tell, *, deep: bool, mend: bool) -> Findings:
    from polyb2.flow.inspect.verify import verify as compare
    from polyb2.notify.messages import verified
    from polyb2.notify.notifier import notify_once
    from polyb2.opening import open_mirror

    async with open_mirror(settings, read_only=not mend) as mirror:
        findings = await compare(mirror, selection, deep=deep, mend=mend, tell=tell)
    await notify_once(settings, verified(findings), over=None if findings.found else "verify ")
    return findings


def cleanup(
    older_than: Annotated[str, typer.Option("--older-than", help="Only uploads begun longer ago than this.")] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, and abort nothing.")] = False,
) -> None:
    """Abort unfinished uploads in the bucket that no ledger row owns."""
    from polyb2.cli.show.output import print_swept, printed_swept

    try:
        older_than_s = parse_duration(older_than)
    except ValueError as error:
        raise UsageError(f"--older-than: {error}") from None
    settings = configured()
    set_up_logging(settings.log_level)
    swept = in_loop(_cleanup(settings, older_than_s, printed_swept(dry_run=dry_run), dry_run=dry_run))
    with ending_with(UNFINISHED if swept.failed else 0):
        print_swept(swept, dry_run=dry_run)


async def _cleanup(
    settings: Settings, older_than_s: float, show: Callable[[OpenUpload], None], *, dry_run: bool
) -> Swept:
    from polyb2.flow.inspect.cleanup import cleanup as sweep
    from polyb2.opening import open_mirror

    def tell(upload: OpenUpload) -> None:
        # What the reader no longer takes is for nobody; the rest is aborted all the same.
        with suppress(BrokenPipeError):
            show(upload)

    async with open_mirror(settings, read_only=dry_run) as mirror:
        now_ms = mirror.ledger.clock.wall_ms()
        return await sweep(mirror, older_than_s=older_than_s, now_ms=now_ms, dry_run=dry_run, tell=tell)
