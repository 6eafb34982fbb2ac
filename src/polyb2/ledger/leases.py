"""Workers and their leases: one lease a process, renewed in one write, measured by a clock that no step moves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from polyb2.clock import Moment
from polyb2.core.errors import LeaseLostError
from polyb2.core.records import Claim
from polyb2.ledger.database import Row, Transaction

HISTORY_MS = 3_600_000
"""For how long workers that ended and the throughput by second are remembered."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A running process in the ledger: ``row`` is what claims name, ``worker_id`` what people read."""

    row: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class Load:
    """What a process is up to: streams, and requests a second that a side is asked at most (None: nothing limits them)."""

    streams_in_use: int = 0
    streams_allowed: int = 0
    source_rps: float | None = None
    target_rps: float | None = None

    @property
    def parameters(self) -> dict[str, int | float | None]:
        """As named parameters of a statement."""
        return {
            "streams_in_use": self.streams_in_use,
            "streams_allowed": self.streams_allowed,
            "source_rps": self.source_rps,
            "target_rps": self.target_rps,
        }


IDLE = Load()


def register(tx: Transaction, worker_id: str, lease_ms: int, now: Moment) -> Worker:
    """A new worker with a fresh lease."""
    tx.run("workers_prune", before_ms=now.wall_ms - HISTORY_MS, **now.parameters)
    tx.run("throughput_prune", before_s=(now.wall_ms - HISTORY_MS) // 1000)
    row = tx.row("worker_register", worker_id=worker_id, lease_ms=lease_ms, **now.parameters)
    assert row is not None  # noqa: S101 - RETURNING of an insert
    return Worker(int(row["id"]), worker_id)


def renew(tx: Transaction, worker: Worker, load: Load, now: Moment) -> None:
    """Extend the lease, and note what its process is up to.

    Raises:
        LeaseLostError: it had run out; its rows may be another's, and none may be settled under it.
    """
    if tx.run("worker_renew", worker=worker.row, **now.parameters) == 0:
        raise LeaseLostError(f"the lease of worker {worker.worker_id} ran out")
    tx.run("load_set", worker=worker.row, **load.parameters)
    tx.run("throughput_prune", before_s=(now.wall_ms - HISTORY_MS) // 1000)


def check(tx: Transaction, worker: Worker, now: Moment) -> None:
    """Raise :class:`LeaseLostError` unless the lease stands."""
    if tx.row("worker_live", worker=worker.row, **now.parameters) is None:
        raise LeaseLostError(f"the lease of worker {worker.worker_id} ran out")


def end(tx: Transaction, worker: Worker, reason: str, now: Moment) -> None:
    """Give all rows of the worker back to the queue, uncharged, and end its lease."""
    tx.run("attempts_released", worker=worker.row, reason=reason, wall_ms=now.wall_ms)
    tx.run("release_worker", worker=worker.row, reason=reason)
    tx.run("worker_end", worker=worker.row, wall_ms=now.wall_ms)


def fence(tx: Transaction, claim: Claim, now: Moment) -> Row:
    """The row's newest revision and progress, if the claim still holds.

    Raises:
        LeaseLostError: the row has another attempt, another worker, or the lease ran out.
    """
    return fences(tx, [claim], now)[0]


def fences(tx: Transaction, claims: Sequence[Claim], now: Moment) -> list[Row]:
    """As :func:`fence`, for claims of different files; LeaseLostError if one of them no longer holds."""
    named = json.dumps([(claim.file_id, claim.attempt, claim.worker) for claim in claims])
    rows = {row["id"]: row for row in tx.rows("fence", claims=named, **now.parameters)}
    for claim in claims:
        if claim.file_id not in rows:
            raise LeaseLostError(f"{claim.key}: attempt {claim.attempt} no longer holds the claim")
    return [rows[claim.file_id] for claim in claims]
