"""Claiming a row: which one is next, and the record of the right to it.

Order: resumable files first, then the newest date, then the smaller; every fourth claim goes to the dataset that waited
longest. A row whose worker is dead is claimed like any other, with the next attempt number as its fence.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from polyb2.core.records import Claim, Revision
from polyb2.core.retry import FILE_BACKOFF_MAX_S
from polyb2.ledger.rows import QueueState, Worker
from polyb2.ledger.store import Row, Transaction
from polyb2.ledger.verbs.leases import check
from polyb2.ledger.verbs.uploads import receipts_of, resumable

FAIR_EVERY = 4
ATTEMPTS_KEPT = 50
BACKOFF_MAX_MS = int(FILE_BACKOFF_MAX_S * 1000 * 2)


def claim_up_to(tx: Transaction, worker: Worker, count: int) -> list[Claim]:
    """The next rows for ``worker``, one after the other, at most ``count`` (LeaseLostError without its lease)."""
    check(tx, worker)
    seq = int(tx.one("claim_seq")["seq"] or 0)
    rows = tx.rows("claim_best", count=count, backoff_max_ms=BACKOFF_MAX_MS)
    best = [int(row["id"]) for row in rows]
    claims: list[Claim] = []
    chosen: dict[int, int] = {}
    while len(claims) + len(chosen) < count and best:
        seq += 1
        file_id = best[0]
        if seq % FAIR_EVERY == 0:
            # Whose turn it is depends on the claims before.
            claims += _take(tx, chosen, worker)
            chosen = {}
            fair = tx.row("claim_fair")
            file_id = file_id if fair is None else int(fair["id"])
        if file_id in best:
            best.remove(file_id)
        chosen[file_id] = seq
    return claims + _take(tx, chosen, worker)


def queue_state(tx: Transaction, worker: Worker) -> QueueState:
    pending, waiting, held = tx.one("queue_pending"), tx.one("queue_waiting"), tx.one("queue_held", worker=worker.row)
    return QueueState(bool(pending["pending"]), waiting["next_ms"], int(held["held"]))


def _take(tx: Transaction, chosen: Mapping[int, int], worker: Worker) -> list[Claim]:
    """Claim the rows that were chosen in this transaction; by their ids, the numbers of the claims."""
    if not chosen:
        return []
    taken = tx.rows("claim_take", files=list(chosen), worker=worker.row, worker_id=worker.worker_id)
    rows = {row["id"]: row for row in taken}
    claimed = {rows[file_id]["dataset"]: seq for file_id, seq in chosen.items()}
    tx.run("claim_note_datasets", claimed=list(claimed.items()))
    tokens = {file_id: secrets.token_hex(16) for file_id in chosen}
    attempts = [(file_id, rows[file_id]["attempt"], rows[file_id]["revision"], tokens[file_id]) for file_id in chosen]
    tx.run("attempts_insert", attempts=attempts, worker_id=worker.worker_id)
    return [_claim(tx, rows[file_id], tokens[file_id], worker) for file_id in chosen]


def _claim(tx: Transaction, row: Row, token: str, worker: Worker) -> Claim:
    file_id, attempt, revision = int(row["id"]), int(row["attempt"]), int(row["revision"])
    upload, earlier = None, list[Row]()
    if attempt > 1:
        tx.run("attempts_lost", file_id=file_id, attempt=attempt)
        tx.run("attempts_prune", file_id=file_id, attempt=attempt, keep=ATTEMPTS_KEPT)
        earlier += tx.rows("attempts_before", file_id=file_id, revision=revision, attempt=attempt)
        upload = resumable(tx, file_id, revision)
    return Claim(
        file_id=file_id,
        key=row["key"],
        dataset=row["dataset"],
        revision=Revision(revision, row["source_etag"], row["size"], row["source_last_modified_ms"]),
        attempt=attempt,
        retry_count=row["retry_count"],
        worker=worker.row,
        token=token,
        earlier_tokens=frozenset(one["token"] for one in earlier if one["revision"] == revision and one["token"]),
        follows_completion=any(one["attempt"] == attempt - 1 and one["outcome"] == "completed" for one in earlier),
        upload=upload,
        receipts=receipts_of(tx, upload) if upload else (),
        forbidden_before=bool(row["forbidden"]),
    )
