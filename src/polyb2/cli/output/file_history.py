"""``files KEY``: the history of a file, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from polyb2.cli.logs import print_failure
from polyb2.cli.output.console import COLOURS, console
from polyb2.core.exit_codes import ExitCode
from polyb2.core.status import Status
from polyb2.core.units import format_duration, format_size, iso_utc

if TYPE_CHECKING:
    from polyb2.ledger.ledger import Ledger
    from polyb2.ledger.rows import AttemptRow, FileRow, History, RevisionRow


async def print_histories(
    ledger: Ledger, keys: Sequence[str], takes: Callable[[FileRow], bool], *, as_json: bool
) -> ExitCode:
    """Print the history of each key whose row is taken; a key that the ledger does not have is named on stderr."""
    code = ExitCode.DONE
    for key in dict.fromkeys(keys):
        history = await ledger.history(key)
        if history is None:
            print_unknown_key(key)
            code = ExitCode.UNFINISHED
        elif not takes(history.file):
            continue
        elif as_json:
            typer.echo(json.dumps(history.as_json()))
        else:
            _print_history(history)
    return code


def print_unknown_key(key: str) -> None:
    """Print that the ledger does not have a key that was named."""
    print_failure(f"the ledger has no {key}: run polyb2 discover for its date and dataset", ExitCode.UNFINISHED)


def _print_history(history: History) -> None:
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
