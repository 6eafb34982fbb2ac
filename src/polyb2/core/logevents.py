"""The names of log events and their fields: stable, so that programs may read ``--log-format json``.

A log line is a sentence for people; the same line as JSON carries one of these names, the sentence, and the fields that
``docs/operations.md`` lists. ``tests/core/test_logevents.py`` holds the two together.
"""

from __future__ import annotations

from enum import StrEnum

EVENT = "event"
FIELDS = "fields"
FORMATS = ("text", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class LogEvent(StrEnum):
    """The event that a log line reports; a line without an event of its own is a ``log.message``."""

    MESSAGE = "log.message"
    COMMAND_FAILED = "command.failed"
    RUN_STARTED = "run.started"
    RUN_PROGRESS = "run.progress"
    RUN_STOPPING = "run.stopping"
    RUN_ENDED = "run.ended"
    DISCOVERY_DONE = "discovery.done"
    DISCOVERY_FAILED = "discovery.failed"
    DISCOVERY_HELD = "discovery.held"
    FILE_STARTED = "file.started"
    FILE_COMPLETED = "file.completed"
    FILE_AWAITED = "file.awaited"
    FILE_FAILED = "file.failed"
    FILE_PARKED = "file.parked"
    FILE_REVISED = "file.revised"
    FILE_LATE = "file.late"
    REQUEST_RETRIED = "request.retried"
    UPLOAD_REFUSED = "upload.refused"
    UPLOAD_LEFT = "upload.left"
    LEASE_LOST = "lease.lost"
    LIMITS_AWAITED = "limits.awaited"
    SIDE_PAUSED = "side.paused"
    SIDE_RESUMED = "side.resumed"
    LEDGER_WAITING = "ledger.waiting"
    LEDGER_RESUMED = "ledger.resumed"
    LEDGER_GONE = "ledger.gone"
    LEDGER_LOST = "ledger.lost"
    BANDWIDTH_CHANGED = "bandwidth.changed"
    NOTIFY_FAILED = "notify.failed"


def log_fields(event: LogEvent, **fields: object) -> dict[str, object]:
    """The ``extra`` of a log line: its event and its fields; fields that are None are left out."""
    return {EVENT: event, FIELDS: {name: value for name, value in fields.items() if value is not None}}
