"""``verify`` and ``cleanup``: the ledger against what the bucket really holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from polyb2.cli import options as o
from polyb2.cli.app import command, configured, ending_with, outliving_reader
from polyb2.cli.loop import in_loop
from polyb2.core.exit_codes import ExitCode
from polyb2.core.selection import Selection
from polyb2.core.units import parse_duration

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.core.records import OpenUpload
    from polyb2.flow.inspect.cleanup import Swept
    from polyb2.flow.inspect.verify import Findings, Tell


@command("polyb2 verify --dataset us_stocks_sip/day_aggs_v1 --repair")
def verify(
    choice: o.Filter,
    deep: Annotated[bool, typer.Option("--deep", help="Read every object back from B2 and compare.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Queue what differs.")] = False,
    as_json: o.Json = False,
) -> None:
    """Ledger against source listing against bucket; exit 3 if they differ."""
    from polyb2.cli.output.results import DifferenceLines, DifferenceObject

    settings = configured()
    printed = DifferenceObject() if as_json else DifferenceLines()
    findings = in_loop(_verify(settings, choice.selection(), outliving_reader(printed.add), deep=deep, mend=repair))
    with ending_with(ExitCode.UNFINISHED if findings.found else ExitCode.DONE):
        printed.end(findings)


async def _verify(settings: Settings, selection: Selection, tell: Tell, *, deep: bool, mend: bool) -> Findings:
    from polyb2.flow.inspect.verify import verify as compare
    from polyb2.notify.messages import verified
    from polyb2.notify.notifier import notify_once
    from polyb2.session import open_mirror

    async with open_mirror(settings, read_only=not mend) as mirror:
        findings = await compare(mirror, selection, deep=deep, mend=mend, tell=tell)
    await notify_once(settings, verified(findings), over=None if findings.found else "verify ")
    return findings


@command("polyb2 cleanup --older-than 24h --dry-run")
def cleanup(
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than",
            metavar="AGE",
            parser=o.read("--older-than", parse_duration),
            help="Only uploads begun longer ago than this.",
        ),
    ] = "24h",  # type: ignore[assignment]  # parsed as a given one is
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, and abort nothing.")] = False,
) -> None:
    """Abort unfinished uploads in the bucket that no ledger row owns."""
    from polyb2.cli.output.results import print_swept, upload_printer

    tell = outliving_reader(upload_printer(dry_run=dry_run))
    swept = in_loop(_cleanup(configured(), older_than, tell, dry_run=dry_run))
    with ending_with(ExitCode.UNFINISHED if swept.failed else ExitCode.DONE):
        print_swept(swept, dry_run=dry_run)


async def _cleanup(
    settings: Settings, older_than_s: float, tell: Callable[[OpenUpload], object], *, dry_run: bool
) -> Swept:
    from polyb2.flow.inspect.cleanup import cleanup as sweep
    from polyb2.session import open_mirror

    async with open_mirror(settings, read_only=dry_run) as mirror:
        now_ms = mirror.ledger.clock.wall_ms()
        return await sweep(mirror, older_than_s=older_than_s, now_ms=now_ms, dry_run=dry_run, tell=tell)
