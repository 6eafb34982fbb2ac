"""The statuses of a file and the only ways from one to another.

The same table is in SQL (a trigger of the ledger's schema) and in the diagram of ARCHITECTURE.md;
``tests/core/test_status.py`` checks that the three agree.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED_DOWNLOAD = "failed_download"
    FAILED_UPLOAD = "failed_upload"
    PERMANENT_FAILURE = "permanent_failure"
    NOT_ENTITLED = "not_entitled"


class Event(StrEnum):
    """The cause of a transition from one status to another."""

    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL_DOWNLOAD = "fail_download"
    FAIL_UPLOAD = "fail_upload"
    PARK = "park"
    REFUSE = "refuse"
    RELEASE = "release"
    REVISE = "revise"
    GONE = "gone"
    RETRY = "retry"
    RESTORE = "restore"
    ADOPT = "adopt"


WAITING = frozenset({Status.PENDING, Status.FAILED_DOWNLOAD, Status.FAILED_UPLOAD})
PARKED = frozenset({Status.PERMANENT_FAILURE, Status.NOT_ENTITLED})
FAILED = frozenset({Status.FAILED_DOWNLOAD, Status.FAILED_UPLOAD, Status.PERMANENT_FAILURE, Status.NOT_ENTITLED})

TRANSITIONS: dict[Event, tuple[frozenset[Status], Status]] = {
    Event.CLAIM: (WAITING | {Status.PROCESSING}, Status.PROCESSING),
    Event.COMPLETE: (frozenset({Status.PROCESSING}), Status.COMPLETED),
    Event.FAIL_DOWNLOAD: (frozenset({Status.PROCESSING}), Status.FAILED_DOWNLOAD),
    Event.FAIL_UPLOAD: (frozenset({Status.PROCESSING}), Status.FAILED_UPLOAD),
    Event.PARK: (frozenset({Status.PROCESSING}), Status.PERMANENT_FAILURE),
    Event.REFUSE: (frozenset({Status.PROCESSING}), Status.NOT_ENTITLED),
    Event.RELEASE: (frozenset({Status.PROCESSING}), Status.PENDING),
    Event.REVISE: (frozenset(Status) - {Status.PROCESSING}, Status.PENDING),
    Event.GONE: (WAITING | {Status.NOT_ENTITLED}, Status.PERMANENT_FAILURE),
    Event.RETRY: (FAILED | {Status.COMPLETED}, Status.PENDING),
    Event.RESTORE: (WAITING, Status.COMPLETED),
    Event.ADOPT: (WAITING | PARKED, Status.COMPLETED),
}


def allowed_pairs() -> frozenset[tuple[Status, Status]]:
    """Every (from, to) that some event allows, without those that change nothing."""
    return frozenset((old, new) for olds, new in TRANSITIONS.values() for old in olds if old is not new)
