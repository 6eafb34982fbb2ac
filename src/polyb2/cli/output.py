"""What commands print for people: plain text that aligns, colour only where the terminal has it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from polyb2.core.checkup import Checkup, Level
from polyb2.core.status import TRANSITIONS, Status
from polyb2.core.units import format_duration, format_size

if TYPE_CHECKING:
    from polyb2.flow.cleanup import Swept
    from polyb2.flow.pool import Outcome
    from polyb2.flow.report import Report
    from polyb2.flow.verify import Difference, Findings
    from polyb2.ledger.reports import StatusReport

NAMED_MAX = 20
PIPE_COLUMNS = 240
_LEVELS = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red", Level.SKIP: "dim"}
COLOURS = {
    Status.COMPLETED: "green",
    Status.PROCESSING: "cyan",
    Status.FAILED_DOWNLOAD: "yellow",
    Status.FAILED_UPLOAD: "yellow",
    Status.PERMANENT_FAILURE: "red",
    Status.NOT_ENTITLED: "magenta",
}


def console() -> Console:
    """Where results go: stdout, without markup or guessing at values; nothing is cut to fit where no terminal is."""
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table; the columns named in ``right`` hold figures."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True, overflow="fold")
    return made


def print_table(out: Console, made: Table) -> None:
    """Print a table at its own width: a line that a narrow terminal wraps reads better than a figure that is cut off."""
    before = out.width
    out.width = max(before, Measurement.get(out, out.options.update(max_width=PIPE_COLUMNS), made).maximum)
    out.print(made)
    out.width = before


def print_report(report: Report) -> None:
    """What discovery found."""
    figures = ("listed", "queued", "revised", "adopted", "unchanged", "bytes")
    made = table("dataset", *figures, right=figures)
    for item in report.datasets.values():
        counts = (item.listed, item.queued, item.revised, item.adopted, item.unchanged)
        made.add_row(item.dataset, *map(str, counts), format_size(item.bytes_queued))
    out = console()
    out.print(made)
    print_named(out, "nothing is listed for", report.not_published)
    print_named(out, "not flat files, left alone:", report.ignored)
    if report.gone:
        out.print(f"{report.gone} unfinished files are listed no longer and were parked (reason source_gone)")
    out.print(f"{report.total('queued')} files queued, {format_size(report.total('bytes_queued'))}")


def print_outcome(outcome: Outcome) -> None:
    """How a run ended."""
    out = console()
    out.print(f"{outcome.completed} files completed")
    statuses = {key: TRANSITIONS[event][1] for key, event in outcome.unfinished.items()}
    print_named(out, "not completed:", [f"{status} {key}" for key, status in statuses.items()])
    if statuses:
        wanted = ",".join(sorted(set(statuses.values())))
        out.print(f"{len(statuses)} files not completed: polyb2 files --status {wanted} tells why")


def print_status(report: StatusReport) -> None:
    """Counts by dataset and status, what is in flight, and the last errors."""
    out = console()
    shown = [status for status in Status if report.totals.by_status[status]["files"]]
    made = table("dataset", *shown, "files", "bytes", "done", right=(*shown, "files", "bytes", "done"))
    for dataset, tally in [*report.datasets.items(), ("all", report.totals)]:
        counts = [Text(str(tally.by_status[status]["files"]), style=COLOURS.get(status, "")) for status in shown]
        share = f"{100 * tally.bytes_done / tally.bytes:.1f} %" if tally.bytes else "-"
        made.add_row(dataset, *counts, str(tally.files), format_size(tally.bytes), share)
    out.print(made)
    if report.rate_bytes_per_s is not None:
        eta = "" if report.eta_s is None else f", {format_duration(report.eta_s)} left"
        out.print(f"{format_size(report.rate_bytes_per_s)}/s{eta}")
    for item in report.in_flight[:NAMED_MAX]:
        share = f"{100 * item['bytes_done'] / item['size']:.0f} %" if item["size"] else "-"
        out.print(f"in flight: {item['key']} {format_size(item['size'])} {share} (attempt {item['attempt']})")
    for item in report.last_errors:
        out.print(f"{item['status']}: {item['key']}: {item['error_message']}")
    if not report.totals.files:
        out.print("the ledger has no files yet: run polyb2 discover")


async def print_files(rows: AsyncIterator[Any]) -> None:
    """Rows of the ledger, one a line, as they come."""
    out = console()
    async for row in rows:
        line = Text(f"{row['status']:<18}", style=COLOURS.get(Status(row["status"]), ""))
        line.append(f"{format_size(row['size']):>10}  {row['key']}", style="default")
        words = ": ".join(word for word in (row["reason"], row["error_message"]) if word)
        out.print(line.append(f"  {words}" if words else "", style="default"))


def print_findings(findings: Findings) -> None:
    """What verify found."""
    out = console()
    for difference in findings.differences:
        out.print(f"{difference.kind:<12} {difference.key}{_revision_words(difference)}")
    print_named(out, "a broken gzip stream, as the source has it:", findings.damaged_at_source)
    out.print(f"{findings.checked} files checked, {len(findings.differences)} differences")
    if findings.repaired:
        out.print(f"{findings.repaired} files queued: polyb2 run sends them again")
    elif findings.is_repairable:
        out.print("polyb2 verify --repair queues what differs")
    elif findings.differences:
        out.print("nothing to send again: polyb2 leaves alone what is extra in the bucket or gone at the source")


def _revision_words(difference: Difference) -> str:
    """Which revisions a stale file is about."""
    row, listed = difference.row, difference.listed
    if row is None or listed is None:
        return ""
    known = difference.listed_revision
    newer = f"revision {known}" if known else "a newer one that no discovery has seen"
    return (
        f"  mirrored is revision {row.mirrored_revision} ({format_size(row.mirrored_size or 0)}), listed is "
        f"{newer} ({format_size(listed.size)}, ETag {listed.etag})"
    )


def print_checkup(checkup: Checkup) -> None:
    """A line a check, and what to do where there is something to do."""
    out = console()
    width = max(len(check.name) for check in checkup.checks)
    for check in checkup.checks:
        line = Text(f"{check.level:<5}", style=_LEVELS[check.level])
        out.print(line.append(f"{check.name:<{width}}  {check.found}", style="default"))
        if check.advice:
            out.print(f"{'':{width + 5}}  -> {check.advice}")
    counts = ", ".join(f"{checkup.count(level)} {level}" for level in Level if checkup.count(level))
    out.print(
        f"{counts}: {'ready to go' if checkup.failure is None else 'cure the first failure, then run doctor again'}"
    )


def print_swept(swept: Swept, *, dry_run: bool) -> None:
    """What cleanup did."""
    out = console()
    for upload in swept.aborted:
        out.print(f"{'would abort' if dry_run else 'aborted'} {upload.key} {upload.upload_id}")
    out.print(
        f"{len(swept.aborted)} uploads {'to abort' if dry_run else 'aborted'}; left alone: {swept.owned} of the ledger, "
        f"{swept.young} too young, {swept.foreign} of other keys"
    )
    if swept.failed:
        out.print(f"{swept.failed} uploads could not be aborted: run polyb2 cleanup again later")


def print_named(out: Console, words: str, names: list[str]) -> None:
    """A line a name, the first twenty."""
    for name in names[:NAMED_MAX]:
        out.print(f"{words} {name}")
    if len(names) > NAMED_MAX:
        out.print(f"{words} {len(names) - NAMED_MAX} more (--json names them)")
