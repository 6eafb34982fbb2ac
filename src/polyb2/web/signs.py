"""The signs of statuses and days: a colour never stands alone, a sign and words come with it."""

from __future__ import annotations

from dataclasses import dataclass

from polyb2.core.coverage import DayState
from polyb2.core.status import Status


@dataclass(frozen=True, slots=True)
class Sign:
    """A CSS class for the colour, a character, and the words that say the same."""

    look: str
    mark: str
    words: str


STATUS_SIGNS = {
    status: Sign(look, mark, status.replace("_", " "))
    for status, (look, mark) in {
        Status.COMPLETED: ("good", "✓"),
        Status.PROCESSING: ("work", "▶"),
        Status.PENDING: ("wait", "…"),
        Status.FAILED_DOWNLOAD: ("late", "↻"),
        Status.FAILED_UPLOAD: ("late", "↻"),
        Status.PERMANENT_FAILURE: ("bad", "✕"),
        Status.NOT_ENTITLED: ("rest", "⊘"),
    }.items()
}
"""In the order of the queue's columns."""
DAY_SIGNS = {
    DayState.MIRRORED: Sign("m", "✓", "mirrored"),
    DayState.REVISED: Sign("r", "↻", "replaced at the source"),
    DayState.QUEUED: Sign("q", "…", "queued"),
    DayState.FAILED: Sign("f", "✕", "failed"),
    DayState.NOT_ENTITLED: Sign("n", "⊘", "not in your plan"),
    DayState.AVAILABLE: Sign("a", "+", "available, not selected"),
    DayState.LATE: Sign("l", "!", "late"),
    DayState.MISSING: Sign("x", "?", "missing at the source"),
    DayState.EXPECTED: Sign("e", "○", "not due yet"),
    DayState.UNKNOWN: Sign("u", "·", "not looked for yet"),
    DayState.CLOSED: Sign("c", "\N{EN DASH}", "no trading"),
    DayState.BEFORE: Sign("b", "", "before the first file"),
}
"""In the order of the legend."""
