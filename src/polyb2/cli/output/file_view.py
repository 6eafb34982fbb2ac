"""``files``: rows of the ledger, or the history of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from rich.text import Text

from polyb2.cli.output.console import COLOURS, console, indented, line_printer
from polyb2.cli.output.frame import elided
from polyb2.core.status import Status
from polyb2.core.units import format_duration, format_size, iso_utc

if TYPE_CHECKING:
    from polyb2.ledger.rows import AttemptRow, FileRow, History, RevisionRow

_BEFORE_KEY = len(f"{'':<18}{'999.9 GB':>8}  ")


async def print_files(files: AsyncIterator[FileRow]) -> None:
    """Rows of the ledger, one a line, as they come; on a terminal an error is below its file."""
    out = console()
    print_plain = line_printer()
    async for file in files:
        words = ": ".join(word for word in (file.reason, file.error_message) if word)
        if not out.is_terminal:
            print_plain(f"{file.status:<18}{format_size(file.size):>10}  {file.key}{'  ' * bool(words)}{words}")
            continue
        line = Text(f"{file.status:<18}", style=COLOURS.get(Status(file.status), ""))
        key = elided(file.key, out.width - _BEFORE_KEY)
        out.print(line.append(f"{format_size(file.size):>8}  {key}", style="default"))
        if words:
            out.print(indented(words))


def print_history(history: History) -> None:
    """The row of a file, its revisions and its attempts."""
    out, file = console(), history.file
    out.print(file.key, style="bold")
    line = Text(f"  {file.status}", style=COLOURS.get(Status(file.status), ""))
    words = ": ".join(word for word in (file.reason, file.error_message) if word)
    out.print(line.append(f"  {words}" if words else "", style="default"))
    if file.next_attempt_ms is not None:
        out.print(f"  tried again at {_time(file.next_attempt_ms)}")
    for revision in history.revisions:
        out.print(f"  revision {revision.revision}: {_revision_words(revision)}")
    for attempt in history.attempts:
        out.print(f"  attempt {attempt.attempt} at revision {attempt.revision}: {_attempt_words(attempt)}")


def _revision_words(row: RevisionRow) -> str:
    seen = f"{format_size(row.size)}, ETag {row.source_etag}, first seen {_time(row.first_seen_ms)}"
    if row.mirrored_at_ms is None:
        return f"{seen}, not mirrored"
    version = f" as version {row.dest_version_id}" if row.dest_version_id else ""
    return f"{seen}, mirrored {_time(row.mirrored_at_ms)}{version}, proven by {row.verification}"


def _attempt_words(row: AttemptRow) -> str:
    took = "under way" if row.seconds is None else f"{row.outcome} after {format_duration(row.seconds)}"
    words = "".join(f": {word}" for word in (row.reason, row.error_message) if word)
    return f"{took}, begun {_time(row.started_ms)} by {row.worker_id}{words}"


def _time(epoch_ms: int) -> str:
    return str(iso_utc(epoch_ms))[:19].replace("T", " ") + " UTC"
