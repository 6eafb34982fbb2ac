"""What to do about files that did not arrive: words, and the command that cures it."""

from __future__ import annotations

import shlex

from polyb2.core.compare import SOURCE_GONE
from polyb2.core.keys import parse_key
from polyb2.core.status import Status


def cure(key: str, status: str, reason: str | None, *, several: bool = False) -> tuple[str, str | None]:
    """What to do, in words, and the command for it.

    Args:
        key: the file.
        status: its status.
        reason: of the status.
        several: for all files of its dataset with this status.

    Returns:
        The words, and the command; None where there is none.
    """
    if status == Status.PERMANENT_FAILURE and reason == SOURCE_GONE:
        return "It is queued again as soon as the source lists it again. To look for it:", discover(key)
    words = _WORDS.get(status)
    if words is None:
        return "There is nothing to do.", None
    name = parse_key(key)
    if several and name is not None:
        return words, f"polyb2 retry --status {status} --dataset {shlex.quote(name.dataset)}"
    named = f"--status {status} " if status == Status.NOT_ENTITLED else ""
    return words, f"polyb2 retry {named}{shlex.quote(key)}"


_WORDS: dict[str, str] = {
    Status.NOT_ENTITLED: "Your plan leaves it out. After a change of the plan:",
    Status.PERMANENT_FAILURE: "It is not tried again by itself. When the cause is cured:",
    Status.FAILED_DOWNLOAD: "It is tried again by itself. To try it at once:",
    Status.FAILED_UPLOAD: "It is tried again by itself. To try it at once:",
}


def discover(key: str) -> str | None:
    """The command that looks for a file at the source."""
    name = parse_key(key)
    if name is None:
        return None
    return f"polyb2 discover --dates {name.date.isoformat()} --dataset {shlex.quote(name.dataset)}"
