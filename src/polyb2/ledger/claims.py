"""Claiming a row: which one is next, and the record of the right to it.

Order: resumable files first, then the newest date, then the smaller; every fourth claim goes to the dataset that waited
longest. A row whose worker is dead is claimed like any other, with the next attempt number as its fence.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from polyb2.clock import Moment
from polyb2.core.parts import PartPlan
from polyb2.core.records import Claim, PartProof, Receipt, Revision, Upload, UploadState
from polyb2.core.retry import FILE_BACKOFF_MAX_S
from polyb2.ledger.database import Row, Transaction
from polyb2.ledger.leases import Worker, check

FAIR_EVERY = 4
ATTEMPTS_KEPT = 50
BACKOFF_MAX_MS = int(FILE_BACKOFF_MAX_S * 1000 * 2)


@dataclass(frozen=True, slots=True)
class QueueState:
    """What is left for this worker to wait for.

    Attributes:
        pending: something can be claimed at once.
        next_attempt_ms: when the next failed file is due (epoch), None where none waits.
        held: rows in the hands of other workers, live or dead.
    """

    pending: bool
    next_attempt_ms: int | None
    held: int

    @property
    def is_empty(self) -> bool:
        return not self.pending and self.next_attempt_ms is None and not self.held


def claim(tx: Transaction, worker: Worker, now: Moment) -> Claim | None:
    """Claim the next row for ``worker``, or None where nothing can be claimed now (LeaseLostError without its lease)."""
    return next(iter(claim_up_to(tx, worker, 1, now)), None)


def claim_up_to(tx: Transaction, worker: Worker, count: int, now: Moment) -> list[Claim]:
    """The next rows for ``worker``, one after the other, at most ``count`` (LeaseLostError without its lease)."""
    check(tx, worker, now)
    last = tx.row("claim_seq")
    seq = int((last and last["seq"]) or 0)
    rows = tx.rows("claim_best", count=count, backoff_max_ms=BACKOFF_MAX_MS, **now.parameters)
    best = [int(row["id"]) for row in rows]
    claims: list[Claim] = []
    chosen: dict[int, int] = {}
    while len(claims) + len(chosen) < count and best:
        seq += 1
        file_id = best[0]
        if seq % FAIR_EVERY == 0:
            # Whose turn it is depends on the claims before.
            claims += _take(tx, chosen, worker, now)
            chosen = {}
            fair = tx.row("claim_fair", wall_ms=now.wall_ms)
            file_id = file_id if fair is None else int(fair["id"])
        if file_id in best:
            best.remove(file_id)
        chosen[file_id] = seq
    return claims + _take(tx, chosen, worker, now)


def queue_state(tx: Transaction, worker: Worker) -> QueueState:
    pending, waiting, held = tx.row("queue_pending"), tx.row("queue_waiting"), tx.row("queue_held", worker=worker.row)
    assert pending is not None and waiting is not None and held is not None  # noqa: S101, PT018 - aggregates
    return QueueState(bool(pending["pending"]), waiting["next_ms"], int(held["held"]))


def _take(tx: Transaction, chosen: Mapping[int, int], worker: Worker, now: Moment) -> list[Claim]:
    """Claim the rows that were chosen in this transaction; by their ids, the numbers of the claims."""
    if not chosen:
        return []
    doing = {"worker_id": worker.worker_id, "wall_ms": now.wall_ms}
    taken = tx.rows("claim_take", files=json.dumps(list(chosen)), worker=worker.row, **doing)
    rows = {row["id"]: row for row in taken}
    claimed = {rows[file_id]["dataset"]: seq for file_id, seq in chosen.items()}
    tx.run("claim_note_datasets", claimed=json.dumps(claimed))
    tokens = {file_id: secrets.token_hex(16) for file_id in chosen}
    attempts = [(file_id, rows[file_id]["attempt"], rows[file_id]["revision"], tokens[file_id]) for file_id in chosen]
    tx.run("attempts_insert", attempts=json.dumps(attempts), **doing)
    return [_claim(tx, rows[file_id], tokens[file_id], worker, now) for file_id in chosen]


def _claim(tx: Transaction, row: Row, token: str, worker: Worker, now: Moment) -> Claim:
    file_id, attempt, revision = int(row["id"]), int(row["attempt"]), int(row["revision"])
    upload = None
    earlier = _Earlier()
    if attempt > 1:
        tx.run("attempts_lost", file_id=file_id, attempt=attempt, wall_ms=now.wall_ms)
        tx.run("attempts_prune", file_id=file_id, attempt=attempt, keep=ATTEMPTS_KEPT)
        earlier = _earlier(tx, file_id, revision, attempt)
        upload = _upload_to_resume(tx, file_id, revision)
    return Claim(
        file_id=file_id,
        key=row["key"],
        dataset=row["dataset"],
        revision=Revision(revision, row["source_etag"], row["size"], row["source_last_modified_ms"]),
        attempt=attempt,
        retry_count=row["retry_count"],
        worker=worker.row,
        token=token,
        earlier_tokens=earlier.tokens,
        follows_completion=earlier.ended_well,
        upload=upload,
        receipts=receipts_of(tx, upload) if upload else (),
        forbidden_before=bool(row["forbidden"]),
    )


@dataclass(frozen=True, slots=True)
class _Earlier:
    """The attempts before a claim: the tokens of those at its revision, and whether the last one completed the file."""

    tokens: frozenset[str] = frozenset()
    ended_well: bool = False


def _earlier(tx: Transaction, file_id: int, revision: int, attempt: int) -> _Earlier:
    rows = tx.rows("attempts_before", file_id=file_id, revision=revision, attempt=attempt)
    tokens = frozenset(row["token"] for row in rows if row["revision"] == revision and row["token"])
    return _Earlier(tokens, any(row["attempt"] == attempt - 1 and row["outcome"] == "completed" for row in rows))


def _upload_to_resume(tx: Transaction, file_id: int, revision: int) -> Upload | None:
    """The live upload of this revision; one of an older revision is abandoned, and the row's progress with it."""
    if tx.run("uploads_abandon", file_id=file_id, revision=revision):
        tx.run("progress_anew", file_id=file_id)
    row = tx.row("upload_live", file_id=file_id)
    return None if row is None else as_upload(row)


def as_upload(row: Row) -> Upload:
    return Upload(
        row=row["id"],
        revision=row["revision"],
        dest_key=row["dest_key"],
        upload_id=row["upload_id"],
        token=row["token"],
        plan=PartPlan(row["size"], row["part_bytes"]),
        proof=PartProof(row["proof"]),
        state=UploadState(row["state"]),
    )


def receipts_of(tx: Transaction, upload: Upload) -> tuple[Receipt, ...]:
    rows = tx.rows("parts_of", upload=upload.row)
    return tuple(Receipt(upload.plan.part(row["number"]), row["etag"], row["md5"]) for row in rows)
