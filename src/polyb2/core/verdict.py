"""What a failed attempt does to its file: which status, charged or not, and when it may be claimed again.

Not charged: an attempt that added a receipt, our own stop, a connection that was never established, a cap, refused keys,
and the first 403 of a file. Everything else is; the charge after ``max_retries`` parks the file.
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
    error: RemoteError, *, retry_count: int, max_retries: int, made_progress: bool, forbidden_before: bool, outage: bool
) -> Verdict:
    """The verdict on an attempt that ended with ``error``.

    Args:
        error: what ended it, after all tries of the request.
        retry_count: charged retries of the file so far.
        max_retries: ``POLYB2_MAX_RETRIES``.
        made_progress: this attempt added at least one receipt.
        forbidden_before: the last attempt at this revision was answered 403.
        outage: the engine found the whole side away, so that the error says nothing about the file.
    """
    reason = str(error.kind)
    failed = Event.FAIL_DOWNLOAD if error.side is Side.SOURCE else Event.FAIL_UPLOAD
    scope = error.handling.scope
    if scope is Scope.ACCOUNT or error.kind is Kind.CAP_EXCEEDED:
        return Verdict(Event.RELEASE, reason, charged=False, waits=False)
    if error.kind is Kind.FORBIDDEN and error.side is Side.SOURCE:
        event = Event.REFUSE if forbidden_before else failed
        return Verdict(event, reason, charged=False, waits=not forbidden_before)
    if not error.handling.cured_by_retry:
        return Verdict(Event.PARK, reason, charged=True, waits=False)
    if outage or made_progress or scope is Scope.OUTAGE:
        return Verdict(failed, reason, charged=False, waits=True)
    if retry_count >= max_retries:
        return Verdict(Event.PARK, reason, charged=True, waits=False)
    return Verdict(failed, reason, charged=True, waits=True)
