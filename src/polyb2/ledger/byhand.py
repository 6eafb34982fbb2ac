"""What people do to the queue by hand, many rows in a statement: put back, take out again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from polyb2.ledger.database import Row, Transaction


def requeue(tx: Transaction, rows: Sequence[Row], now_ms: int, *, disown: bool = False) -> int:
    """Put rows back into the queue, uncharged; a row that moved on since it was looked at is left alone."""
    seen = json.dumps([(row["id"], row["status"]) for row in rows])
    moved = [row["id"] for row in tx.rows("files_requeue", files=seen, now_ms=now_ms)]
    if disown:
        tx.run("attempts_disown", files=json.dumps(moved))
    return len(moved)


def unqueue(tx: Transaction, ids: Iterable[int]) -> int:
    """Take waiting rows out: new files leave the ledger, re-published ones are what the target holds again."""
    files = json.dumps(list(ids))
    tx.run("uploads_abandon_waiting", files=files)
    restored = json.dumps([row["id"] for row in tx.rows("files_restore", files=files)])
    tx.run("revisions_after", files=restored)
    return len(json.loads(restored)) + tx.run("files_delete", files=files)
