"""What commands print for people: plain text that aligns, colour only where the terminal has it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from polyb2.cli.logs import tell_failure
from polyb2.cli.manner import MANNER
from polyb2.cli.show.picture import elided
from polyb2.cli.show.safe import SafeConsole
from polyb2.core.scrub import shown
from polyb2.core.status import TRANSITIONS, Status
from polyb2.core.units import format_duration, format_size
from polyb2.doctor.checks import Checkup, Level

if TYPE_CHECKING:
    from polyb2.core.records import OpenUpload
    from polyb2.flow.discover.findings import Report
    from polyb2.flow.inspect.cleanup import Swept
    from polyb2.flow.inspect.verify import Difference, Findings
    from polyb2.flow.run.pool import Outcome
    from polyb2.ledger.rows import FileRow

NAMED_MAX = 20
PIPE_COLUMNS = 240
UNFINISHED = 3
_BEFORE_KEY = len(f"{'':<18}{'999.9 GB':>8}  ")
_LEVELS = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red", Level.SKIP: "dim"}
COLOURS = {
    Status.COMPLETED: "green",
    Status.PROCESSING: "cyan",
    Status.FAILED_DOWNLOAD: "yellow",
    Status.FAILED_UPLOAD: "yellow",
    Status.PERMANENT_FAILURE: "red",
    Status.NOT_ENTITLED: "magenta",
}


def console(*, asked: bool = True) -> Console:
    """Where results go: stdout, without markup or guessing at values; nothing is cut to fit where no terminal is.

    Args:
        asked: the result is what the command is for; without it ``--quiet`` keeps it back.
    """
    piped = not sys.stdout.isatty()
    return SafeConsole(
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=piped,
        width=PIPE_COLUMNS if piped else None,
        quiet=MANNER.quiet and not asked,
    )


def lines(*, asked: bool = True) -> Callable[[str], object]:
    """Prints lines, of which there may be very many: a console lays out each as a page of its own."""
    out = console(asked=asked)
    if out.is_terminal or out.quiet:
        return out.print
    return lambda words: sys.stdout.write(f"{shown(words)}\n")


def say(words: str) -> None:
    """What a command did, in a line; ``--quiet`` keeps it back."""
    console(asked=False).print(words)


def table(*columns: str, right: tuple[str, ...] = (), gap: int = 2) -> Table:
    """A plain table; the columns named in ``right`` hold figures, ``gap`` spaces lie between columns."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True, overflow="fold")
    return made


def print_table(out: Console, made: Table) -> None:
    """Print a table at its own width: a line that a narrow terminal wraps reads better than a figure that is cut off."""
    before = out.width
    out.width = max(before, Measurement.get(out, out.options.update(max_width=PIPE_COLUMNS), made).maximum)
    out.print(made)
    out.width = before


def dataset_table(out: Console, figures: tuple[str, ...], rows: Iterable[tuple[str, list[str | Text]]]) -> Table:
    """Figures by dataset; where the terminal is narrow a dataset is two lines, its prefix above its type."""
    rows = list(rows)
    made = table("dataset", *figures, right=figures)
    for dataset, values in rows:
        made.add_row(dataset, *values)
    if made.__rich_measure__(out, out.options.update(width=PIPE_COLUMNS)).maximum <= out.width:
        return made
    narrow = table("dataset", *figures, right=figures, gap=1)
    above = ""
    for dataset, values in rows:
        prefix, slash, kind = dataset.partition("/")
        if slash and prefix != above:
            narrow.add_row(prefix)
        above = prefix if slash else ""
        narrow.add_row(f"  {kind}" if slash else dataset, *values)
    return narrow


def print_report(report: Report) -> None:
    """What discovery found."""
    out = console(asked=False)
    figures = ("listed", "queued", "revised", "adopted", "unchanged", "bytes")
    rows: list[tuple[str, list[str | Text]]] = []
    for item in report.datasets.values():
        counts = (item.listed, item.queued, item.revised, item.adopted, item.unchanged)
        rows.append((item.dataset, [*map(str, counts), format_size(item.bytes_queued)]))
    out.print(dataset_table(out, figures, rows))
    print_named(out, "nothing is listed for", report.not_published, "discover")
    print_left_out(out, report, "discover")
    if report.gone:
        out.print(f"{report.gone} unfinished files are listed no longer and were parked (reason source_gone)")
    out.print(f"{report.total('queued')} files queued, {format_size(report.total('bytes_queued'))}")


def print_left_out(out: Console, report: Report, command: str) -> None:
    """Keys that discovery left alone, and why where that is not plain to see."""
    print_named(
        out, "not flat files, left alone:", [key for key in report.ignored if key not in report.reasons], command
    )
    print_named(out, "left out:", [f"{key}: {why}" for key, why in report.reasons.items()], command)


def print_outcome(outcome: Outcome, seconds: float | None = None) -> None:
    """How a run ended, and in how many seconds."""
    out = console(asked=False)
    speed = f", {format_size(outcome.bytes / seconds)}/s" if seconds and outcome.bytes else ""
    lasted = f" in {format_duration(seconds)}{speed}" if seconds is not None and outcome.completed else ""
    out.print(f"{outcome.completed} files completed, {format_size(outcome.bytes)} sent{lasted}")
    statuses = {key: TRANSITIONS[event][1] for key, event in outcome.unfinished.items()}
    print_named(out, "not completed:", [f"{status} {key}" for key, status in statuses.items()])
    if statuses:
        wanted = ",".join(sorted(set(statuses.values())))
        words = f"{len(statuses)} files not completed: polyb2 files --status {wanted} tells why"
        out.print(words)
        if MANNER.quiet:
            tell_failure(words, UNFINISHED)


def indented(words: str) -> Padding:
    """Words below the line that they explain, wrapped where they have to be."""
    return Padding(Text(words, style="dim"), (0, 0, 0, 4))


async def print_files(files: AsyncIterator[FileRow]) -> None:
    """Rows of the ledger, one a line, as they come; on a terminal what went wrong stands below."""
    out = console()
    line_of = lines()
    async for file in files:
        words = ": ".join(word for word in (file.reason, file.error_message) if word)
        if not out.is_terminal:
            line_of(f"{file.status:<18}{format_size(file.size):>10}  {file.key}{'  ' * bool(words)}{words}")
            continue
        line = Text(f"{file.status:<18}", style=COLOURS.get(Status(file.status), ""))
        key = elided(file.key, out.width - _BEFORE_KEY)
        out.print(line.append(f"{format_size(file.size):>8}  {key}", style="default"))
        if words:
            out.print(indented(words))


def printed_differences() -> Callable[[Difference], None]:
    """Prints a line of each that verify found."""
    line = lines(asked=False)

    def show(difference: Difference) -> None:
        line(f"{difference.kind:<12} {difference.key}{_revision_words(difference)}")

    return show


def print_findings(findings: Findings) -> None:
    """What verify found, but for the differences themselves."""
    out = console(asked=False)
    if MANNER.quiet and findings.found:
        tell_failure(f"{findings.found} differences: polyb2 verify without --quiet names them", UNFINISHED)
    words = "a broken gzip stream, as the source has it:"
    print_named(out, words, findings.damaged_at_source, "verify", total=findings.damaged)
    out.print(f"{findings.checked} files checked, {findings.found} differences")
    if findings.repaired:
        out.print(f"{findings.repaired} files queued: polyb2 run sends them again")
    elif findings.is_repairable:
        out.print("polyb2 verify --repair queues what differs")
    elif findings.found:
        out.print("nothing to send again: polyb2 leaves alone what is extra in the bucket or gone at the source")


def _revision_words(difference: Difference) -> str:
    """Which revisions a stale file is about."""
    row, listed = difference.row, difference.listed
    if row is None or listed is None:
        return ""
    known = difference.listed_revision
    newer = f"revision {known}" if known else "a newer one that no discovery has seen"
    if difference.is_held:
        newer = "a newer one that is not queued until somebody agrees, as polyb2 status says"
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


def printed_swept(*, dry_run: bool) -> Callable[[OpenUpload], None]:
    """Prints a line of each upload that cleanup aborts."""
    line = lines(asked=dry_run)

    def show(upload: OpenUpload) -> None:
        line(f"{'would abort' if dry_run else 'aborted'} {upload.key} {upload.upload_id}")

    return show


def print_swept(swept: Swept, *, dry_run: bool) -> None:
    """What cleanup did."""
    out = console(asked=dry_run)
    out.print(
        f"{swept.aborted} uploads {'to abort' if dry_run else 'aborted'}; left alone: {swept.owned} of the ledger, "
        f"{swept.young} too young, {swept.foreign} of other keys"
    )
    if swept.failed:
        out.print(f"{swept.failed} uploads could not be aborted: run polyb2 cleanup again later")


def print_named(out: Console, words: str, names: list[str], command: str = "", *, total: int | None = None) -> None:
    """A line a name, the first twenty of ``total``; ``command`` has a ``--json`` that names all of ``names``."""
    for name in names[:NAMED_MAX]:
        out.print(f"{words} {name}")
    if len(names) > NAMED_MAX:
        rest = f" (polyb2 {command} --json names them)" if command else ""
        out.print(f"{words} {(total or len(names)) - NAMED_MAX} more{rest}")
