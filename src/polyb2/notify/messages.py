"""Events as news: the words for each, and the name under which it is sent once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date, timedelta

from polyb2.core.coverage import SETTLED, Day, DayState
from polyb2.core.errors import RemoteError, UsageError
from polyb2.core.news import News, Topic
from polyb2.core.scrub import scrub
from polyb2.core.selection import DateRange
from polyb2.core.status import TRANSITIONS, Event
from polyb2.core.units import format_size
from polyb2.flow.inspect.completeness import days_of, resolve_known
from polyb2.flow.inspect.verify import Findings
from polyb2.flow.run.pool import Outcome
from polyb2.ledger.ledger import Ledger

LATELY = timedelta(days=8)
"""Days that are reported; older ones are left to ``coverage``."""


def failed(words: str) -> News:
    """The run ended with an error; sent once until a run succeeds."""
    words = scrub(words)
    return News(Topic.FAILED, f"the run failed: {words}", f"failed {_mark(words)}")


def ended(outcome: Outcome) -> list[News]:
    """A run ended by itself; one that had nothing to do is no news."""
    if not outcome.claimed:
        return []
    lacking = len(outcome.unfinished)
    words = f"{outcome.completed} files completed, {format_size(outcome.bytes)} sent"
    return [News(Topic.ENDED, words + (f", {lacking} files not completed" if lacking else ""))]


def shortfall(outcome: Outcome) -> str | None:
    """The message for a monitor about a run that ended by itself; None if all is well."""
    lacking = len(outcome.unfinished)
    return f"{lacking} files not completed: polyb2 files tells why" if lacking else None


def unfinished(key: str, event: Event) -> News:
    """A file that was attempted and failed for now, or for good."""
    return News(Topic.UNFINISHED, f"{TRANSITIONS[event][1]}: {key} (polyb2 files {key} tells why)")


def revised(key: str) -> News:
    """The source replaced a file; the newest revision is queued."""
    return News(Topic.REVISED, f"revised at the source: {key}")


def stopped(error: RemoteError) -> News:
    """A whole side is down; sent once until bytes move again."""
    return News(Topic.STOPPED, f"nothing goes through: {scrub(str(error))}", f"stopped {error.side} {error.kind}")


def verified(findings: Findings) -> list[News]:
    """The result of ``verify``; the same differences are sent once until it finds none."""
    if not findings.differences:
        return []
    mark, more = f"{findings.mark:016x}", findings.found - len(findings.differences)
    news = [
        News(Topic.VERIFY, f"verify: {item.kind} {item.key}", f"verify {mark} {item.kind} {item.key}")
        for item in findings.differences
    ]
    return news + ([News(Topic.VERIFY, f"verify: {more} more", f"verify {mark} more")] if more else [])


async def of_days(ledger: Ledger, patterns: Iterable[str]) -> list[News]:
    """The recent days that are complete, and the files that are late."""
    try:
        datasets = await resolve_known(ledger, patterns)
    except UsageError:
        # Discovery reports a pattern that matches nothing.
        return []
    today = ledger.clock.today()
    days = [day for name in datasets for day in await days_of(ledger, name, DateRange(today - LATELY, today))]
    late = [day for day in days if day.state is DayState.LATE]
    return [
        *(News(Topic.LATE, f"late: {day.dataset} {day.date}", f"late {day.dataset} {day.date}") for day in late),
        *(
            News(Topic.COMPLETE, f"complete: {day} ({len(datasets)} datasets)", f"complete {day} {_mark(*datasets)}")
            for day in complete(days)
        ),
    ]


def complete(days: Iterable[Day]) -> list[date]:
    """The dates that lack nothing and have a mirrored file."""
    states: dict[date, set[DayState]] = {}
    for day in days:
        states.setdefault(day.date, set()).add(day.state)
    return sorted(name for name, found in states.items() if found <= SETTLED and DayState.MIRRORED in found)


def _mark(*words: str) -> str:
    """A short name for words of any length."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
