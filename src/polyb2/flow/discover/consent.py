"""Discovery that asks before it queues a large plan: the guard of ``POLYB2_MAX_PLAN_BYTES``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from polyb2.core.compare import Plan
from polyb2.core.errors import UsageError
from polyb2.core.units import format_size
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.discover.findings import Report


class PlanTooLargeError(UsageError):
    """A plan is above ``POLYB2_MAX_PLAN_BYTES`` and was not confirmed; nothing of it was queued."""


@dataclass(frozen=True, slots=True)
class Consent:
    """The plans that may be queued without asking.

    Attributes:
        max_bytes: ``POLYB2_MAX_PLAN_BYTES``.
        given: ``--yes``.
        ask: asks the user; None if there is no terminal.
    """

    max_bytes: int
    given: bool = False
    ask: Callable[[str], Awaitable[bool]] | None = None

    def covers(self, report: Report) -> bool:
        """Tell if the plan is small enough not to ask."""
        return self.given or report.total("bytes_queued") <= self.max_bytes

    async def obtain(self, report: Report) -> None:
        """Ask for it; raise :class:`PlanTooLargeError` unless the answer is yes."""
        planned = report.total("bytes_queued")
        words = (
            f"{report.total('queued')} files with {format_size(planned)} would be queued, more than "
            f"POLYB2_MAX_PLAN_BYTES ({format_size(self.max_bytes)})"
        )
        if self.ask is None or not await self.ask(words):
            raise PlanTooLargeError(f"{words}: nothing was queued; narrow the selection, or say --yes")


async def discover(discovery: Discovery, consent: Consent, on_queued: Callable[[], None] = lambda: None) -> Report:
    """Survey, get consent where needed, queue."""
    if consent.given:
        return await discovery.queue(on_queued)
    report = await discovery.survey()
    if consent.covers(report):
        return await discovery.queue(on_queued)
    await consent.obtain(report)
    return await discovery.queue(on_queued, relist=True)


async def discover_unasked(
    discovery: Discovery, consent: Consent, on_queued: Callable[[], None] = lambda: None
) -> Report:
    """Survey, queue the part that needs no confirmation, and hold the rest until it is confirmed: a watch cannot ask."""
    if consent.given:
        return await discovery.queue(on_queued)
    report = await discovery.survey()
    return await discovery.queue(on_queued, agreed=agreed(report, consent.max_bytes))


def agreed(report: Report, max_bytes: int) -> frozenset[Plan]:
    """The kinds of plan that may be queued without asking, new files and replaced files separately.

    Both fresh and held files if their total is within the limit; else the fresh ones alone, if these are, so that files
    that wait for confirmation do not block later ones.
    """
    allowed: set[Plan] = set()
    for fresh, held in ((Plan.NEW, Plan.NEW_HELD), (Plan.REVISED, Plan.REVISED_HELD)):
        fresh_bytes, held_bytes = report.planned[fresh].bytes, report.planned[held].bytes
        if fresh_bytes <= max_bytes:
            allowed.add(fresh)
        if fresh_bytes + held_bytes <= max_bytes:
            allowed.add(held)
    return frozenset(allowed)
