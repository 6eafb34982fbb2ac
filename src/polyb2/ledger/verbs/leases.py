"""Workers and their leases: one lease a process, renewed in one write, measured by a clock that no step moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from polyb2.core.errors import LeaseLostError
from polyb2.core.records import Claim
from polyb2.ledger.rows import Load, Worker
from polyb2.ledger.store import Row, Transaction

HISTORY_MS = 3_600_000
"""For this long, workers that ended and the throughput by second are remembered."""


def register(tx: Transaction, worker_id: str, lease_ms: int) -> Worker:
    """A new worker with a fresh lease."""
    tx.run("workers_prune", kept_ms=HISTORY_MS)
    tx.run("throughput_prune", kept_ms=HISTORY_MS)
    row = tx.one("worker_register", worker_id=worker_id, lease_ms=lease_ms)
    return Worker(int(row["id"]), worker_id)


def renew(tx: Transaction, worker: Worker, load: Load) -> None:
    """Extend the lease, and note what its process is up to, for ``status``.

    Raises:
        LeaseLostError: it had run out; its rows may be another's, and none may be settled under it.
    """
    if tx.run("worker_renew", worker=worker.row) == 0:
        raise _lost(worker)
    tx.run("load_set", worker=worker.row, **asdict(load))
    tx.run("throughput_prune", kept_ms=HISTORY_MS)


def check(tx: Transaction, worker: Worker) -> None:
    """Raise :class:`LeaseLostError` unless the lease holds."""
    if tx.row("worker_live", worker=worker.row) is None:
        raise _lost(worker)


def end(tx: Transaction, worker: Worker, reason: str) -> None:
    """Give all rows of the worker back to the queue, uncharged, and end its lease."""
    tx.run("attempts_released", worker=worker.row, reason=reason)
    tx.run("release_worker", worker=worker.row, reason=reason)
    tx.run("worker_end", worker=worker.row)


def fence(tx: Transaction, claim: Claim) -> Row:
    """The row's newest revision and progress, if the claim still holds.

    Raises:
        LeaseLostError: the row has another attempt, another worker, or the lease ran out.
    """
    return fences(tx, [claim])[0]


def fences(tx: Transaction, claims: Sequence[Claim]) -> list[Row]:
    """As :func:`fence`, for claims of different files; LeaseLostError if one of them no longer holds."""
    named = [(claim.file_id, claim.attempt, claim.worker) for claim in claims]
    rows = {row["id"]: row for row in tx.rows("fence", claims=named)}
    for claim in claims:
        if claim.file_id not in rows:
            raise LeaseLostError(f"{claim.key}: attempt {claim.attempt} no longer holds the claim")
    return [rows[claim.file_id] for claim in claims]


def _lost(worker: Worker) -> LeaseLostError:
    return LeaseLostError(f"the lease of worker {worker.worker_id} ran out")
