"""The consequence of a failed attempt for its file: the new status, charged or not, and the time of the next claim.

Not charged: an attempt that added a receipt, our own stop, a connection that was never established, a cap, refused keys,
the first 403 of a file, and a doubted answer. An answer is doubted if an intermediary wrote it, or if it is a 403 or 404 of a
file whose neighbours can be read. Everything else is charged; the charge after ``max_retries`` parks the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyb2.core.errors import Kind, RemoteError, Scope, Side
from polyb2.core.status import Event


@dataclass(frozen=True, slots=True)
class Verdict:
    """The settlement of a failed attempt.

    Attributes:
        event: the transition.
        reason: one word, kept on the row.
        charged: whether it counts as a retry of the file.
        waits: whether the row waits for a back-off before it is claimed again.
    """

    event: Event
    reason: str
    charged: bool
    waits: bool


def judge(
    error: RemoteError,
    *,
    retry_count: int,
    max_retries: int,
    made_progress: bool,
    forbidden_before: bool,
    outage: bool,
    doubted: bool = False,
) -> Verdict:
    """The verdict on an attempt that ended with ``error``.

    Args:
        error: what ended it, after all tries of the request.
        retry_count: charged retries of the file so far.
        max_retries: ``POLYB2_MAX_RETRIES``.
        made_progress: this attempt added at least one receipt.
        forbidden_before: the last attempt at this revision was answered 403.
        outage: the engine found the whole side away, so that the error says nothing about the file.
        doubted: the side works, but its answer about this file is not believed yet.
    """
    reason = str(error.kind)
    failed = Event.FAIL_DOWNLOAD if error.side is Side.SOURCE else Event.FAIL_UPLOAD
    scope = error.handling.scope
    if scope is Scope.ACCOUNT or error.kind is Kind.CAP_EXCEEDED:
        return Verdict(Event.RELEASE, reason, charged=False, waits=False)
    if error.kind is Kind.FORBIDDEN and error.side is Side.SOURCE:
        is_believed = forbidden_before and not doubted
        return Verdict(Event.REFUSE if is_believed else failed, reason, charged=False, waits=not is_believed)
    if outage:
        # The side answers everything like this, so it says nothing about this file.
        return Verdict(failed, reason, charged=False, waits=True)
    if not error.handling.cured_by_retry:
        return Verdict(Event.PARK, reason, charged=True, waits=False)
    if made_progress or doubted or error.kind is Kind.UNREACHABLE:
        return Verdict(failed, reason, charged=False, waits=True)
    # An intermediary's answer is never charged; one that is not doubted has come too often while the side was well.
    parks = error.by_intermediary or retry_count >= max_retries
    return Verdict(Event.PARK if parks else failed, reason, charged=not error.by_intermediary, waits=not parks)
