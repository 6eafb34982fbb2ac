"""A file's story: its row, every revision that was seen of it, and its last attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polyb2.core.units import iso_utc
from polyb2.ledger.database import Row, Transaction
from polyb2.ledger.reports import file_json


@dataclass(frozen=True, slots=True)
class Story:
    """What the ledger has of one key.

    Attributes:
        row: of ``files``.
        revisions: oldest first.
        attempts: oldest first; the last fifty are kept.
    """

    row: Row
    revisions: Sequence[Row]
    attempts: Sequence[Row]

    def as_json(self) -> dict[str, Any]:
        """The contract's object of ``files --json``, with ``revisions`` and ``attempts``."""
        return {
            **file_json(self.row),
            "revisions": [_revision_json(row) for row in self.revisions],
            "attempts": [_attempt_json(row) for row in self.attempts],
        }


def story(tx: Transaction, key: str) -> Story | None:
    """What the ledger has of a key; None where it has nothing."""
    row = tx.row("file_by_key", key=key)
    if row is None:
        return None
    file_id = row["id"]
    return Story(row, tx.rows("revisions_of", file_id=file_id), tx.rows("attempts_of", file_id=file_id))


def attempt_seconds(row: Row) -> float | None:
    """How long an attempt took; None while it lasts."""
    return None if row["ended_ms"] is None else (row["ended_ms"] - row["started_ms"]) / 1000


def _revision_json(row: Row) -> dict[str, Any]:
    return {
        "revision": row["revision"],
        "source_etag": row["source_etag"],
        "size": row["size"],
        "source_last_modified": iso_utc(row["source_last_modified_ms"]),
        "first_seen_at": iso_utc(row["first_seen_ms"]),
        "mirrored_at": iso_utc(row["mirrored_at_ms"]),
        "dest_etag": row["dest_etag"],
        "dest_version_id": row["dest_version_id"],
        "verification": row["verification"],
    }


def _attempt_json(row: Row) -> dict[str, Any]:
    return {
        "attempt": row["attempt"],
        "revision": row["revision"],
        "worker_id": row["worker_id"],
        "started_at": iso_utc(row["started_ms"]),
        "ended_at": iso_utc(row["ended_ms"]),
        "seconds": attempt_seconds(row),
        "outcome": row["outcome"],
        "reason": row["reason"],
        "error_message": row["error_message"],
    }
