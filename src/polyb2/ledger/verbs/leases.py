"""Workers and their leases: one lease a process, renewed in one write, measured by a clock that no step moves.

With the lease goes a share of the account's limits. Invariant: the shares on record of the live workers are together never
more than the whole, and no worker uses more than its share on record. So a worker that joins gets what the others have given
up, which is nothing at first. Each gives up when it renews; what a dead one held is free with the end of its lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from polyb2.core.errors import LeaseLostError
from polyb2.core.records import Claim
from polyb2.ledger.rows import WHOLE, Load, Share, Worker
from polyb2.ledger.store import Row, Transaction

HISTORY_MS = 3_600_000
"""For this long, workers that ended and the throughput by second are remembered."""


def register(tx: Transaction, worker_id: str, lease_ms: int, host: str = "", version: str = "") -> Worker:
    """A new worker with a fresh lease, on a host and of a version of the program."""
    tx.run("workers_prune", kept_ms=HISTORY_MS)
    tx.run("throughput_prune", kept_ms=HISTORY_MS)
    row = tx.one("worker_register", worker_id=worker_id, host=host, version=version, lease_ms=lease_ms)
    return Worker(int(row["id"]), worker_id, _share(tx, int(row["id"]), 0))


def renew(tx: Transaction, worker: Worker, load: Load, used: int = 0) -> Share:
    """Extend the lease, note what its process is up to, for ``status``, and tell its share of the account's limits.

    ``used`` is the share that it uses now. It counts until the renewal after this one, even if this one tells less.

    Raises:
        LeaseLostError: it had run out; its rows may be another's, and none may be settled under it.
    """
    if tx.run("worker_renew", worker=worker.row) == 0:
        raise _lost(worker)
    tx.run("load_set", worker=worker.row, **asdict(load))
    tx.run("throughput_prune", kept_ms=HISTORY_MS)
    return _share(tx, worker.row, used)


def _share(tx: Transaction, worker: int, used: int) -> Share:
    share = _share_now(tx, worker)
    if share.fair > used:
        tx.one("shares_lock")
        share = _share_now(tx, worker)
    tx.run("share_set", worker=worker, share=max(used, share.granted))
    return share


def _share_now(tx: Transaction, worker: int) -> Share:
    others = tx.one("shares_of_others", worker=worker)
    fair = WHOLE // (others["workers"] + 1)
    return Share(max(0, min(fair, WHOLE - others["taken"])), fair)


def last_claim(tx: Transaction, worker: Worker) -> int:
    """The number of the worker's last claim; LeaseLostError unless its lease holds."""
    row = tx.row("worker_live", worker=worker.row)
    if row is None:
        raise _lost(worker)
    return int(row["last_claim"])


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
    named = [(claim.file_id, claim.attempt, claim.worker, claim.token) for claim in claims]
    rows = {row["id"]: row for row in tx.rows("fence", claims=named)}
    for claim in claims:
        if claim.file_id not in rows:
            raise LeaseLostError(f"{claim.key}: attempt {claim.attempt} no longer holds the claim")
    return [rows[claim.file_id] for claim in claims]


def _lost(worker: Worker) -> LeaseLostError:
    return LeaseLostError(f"the lease of worker {worker.worker_id} ran out")
