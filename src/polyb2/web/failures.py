"""Failures as the page shows them: those of a kind together, each with a remedy in words and the command for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from polyb2.core.compare import SOURCE_GONE
from polyb2.core.keys import parse_key
from polyb2.core.status import FAILED, Status
from polyb2.ledger.status_report import Failure
from polyb2.web.signs import STATUS_SIGNS, Sign

ALL_FAILURES = f"polyb2 files --status {','.join(sorted(FAILED))}"
KINDS_SHOWN = 6
MESSAGE_MAX = 400
"""Characters of an error message on the overview; the page of its file has all of it."""
_TRIED_AGAIN = "It is tried again by itself. To try it at once:"
_REMEDIES: Mapping[str, str] = {
    Status.NOT_ENTITLED: "Your plan leaves it out. After a change of the plan:",
    Status.PERMANENT_FAILURE: "It is not tried again by itself. When the cause is cured:",
    Status.FAILED_DOWNLOAD: _TRIED_AGAIN,
    Status.FAILED_UPLOAD: _TRIED_AGAIN,
}


@dataclass(frozen=True, slots=True)
class Remedy:
    """Advice, and the command for it; None where there is nothing to run."""

    words: str
    command: str | None


@dataclass(frozen=True, slots=True)
class FailureKind:
    """Failures of the same dataset, status and reason: the newest, how many others there are, and what helps.

    Times are epoch milliseconds; ``message`` may be cut; ``next_attempt_ms`` is None where there is no next attempt.
    """

    key: str
    sign: Sign
    others: int
    message: str
    failed_ms: int | None
    next_attempt_ms: int | None
    remedy: Remedy


def kinds_of(failures: Sequence[Failure]) -> list[FailureKind]:
    """The newest kinds of the failures, which come newest first."""
    kinds: dict[tuple[str, str, str | None], list[Failure]] = {}
    for item in failures:
        name = parse_key(item.key)
        kinds.setdefault((name.dataset if name else item.key, item.status, item.reason), []).append(item)
    return [_kind(*found) for found in list(kinds.values())[:KINDS_SHOWN]]


def _kind(newest: Failure, *others: Failure) -> FailureKind:
    message = newest.error_message or newest.reason or "no reason is known"
    return FailureKind(
        newest.key,
        STATUS_SIGNS[Status(newest.status)],
        len(others),
        message if len(message) <= MESSAGE_MAX else f"{message[:MESSAGE_MAX]} ...",
        newest.failed_ms,
        newest.next_attempt_ms,
        remedy_of(newest.key, newest.status, newest.reason, several=bool(others)),
    )


def remedy_of(key: str, status: str, reason: str | None, *, several: bool = False) -> Remedy:
    """The remedy for a file of that status and reason; ``several``: for all files of its dataset with this status."""
    if status == Status.PERMANENT_FAILURE and reason == SOURCE_GONE:
        words = "It is queued again as soon as the source lists it again. To look for it:"
        return Remedy(words, discover_command(key))
    if status not in _REMEDIES:
        return Remedy("There is nothing to do.", None)
    name = parse_key(key)
    if several and name is not None:
        return Remedy(_REMEDIES[status], f"polyb2 retry --status {status} --dataset {shlex.quote(name.dataset)}")
    filtered = f"--status {status} " if status == Status.NOT_ENTITLED else ""
    return Remedy(_REMEDIES[status], f"polyb2 retry {filtered}{shlex.quote(key)}")


def discover_command(key: str) -> str | None:
    """The command that looks for a file at the source; None for a key that is not one of a flat file."""
    name = parse_key(key)
    if name is None:
        return None
    return f"polyb2 discover --dates {name.date.isoformat()} --dataset {shlex.quote(name.dataset)}"
