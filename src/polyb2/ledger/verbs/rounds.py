"""Rounds: what one worker at a time does for all workers of the ledger, such as listing the source.

A round has no lease of its own: it belongs to a row of ``workers``, and is free once the lease of that worker is over. The
worker that ends it says when it is due again. That holds for as long as this worker lives: a run that starts alone begins at
once. A round of a day counts for that day, whatever became of its worker.
"""

from __future__ import annotations

from polyb2.core.errors import LeaseLostError
from polyb2.ledger.rows import Round, RoundClaim, Worker
from polyb2.ledger.store import Transaction
from polyb2.ledger.verbs.leases import last_claim

KEPT_MS = 30 * 24 * 3600 * 1000


def look(tx: Transaction, worker: Worker, name: str, every_ms: int, day: str | None = None) -> Round:
    """The round as ``worker`` sees it, who wants it made every so often, and for this ``day`` if it is a round of a day."""
    row = tx.row("round_get", name=name)
    if row is None:
        return Round(0, False, None, 0, None)
    is_ours = row["worker"] == worker.row
    made_ms = row["made_ms"]
    if made_ms is None:
        wait_ms = 0 if is_ours or not row["live"] else None
    else:
        is_over = row["day"] != day if day is not None else not row["live"]
        due_ms = min(row["due_ms"], made_ms + every_ms)
        # Made in the future: a clock that was set back.
        wait_ms = 0 if is_over or made_ms > tx.now_ms else max(0, due_ms - tx.now_ms)
    return Round(row["turn"], is_ours, made_ms, wait_ms, row["problem"])


def take(tx: Transaction, worker: Worker, name: str, every_ms: int, day: str | None = None) -> RoundClaim | None:
    """The right to make the round; None where it is not due, or another worker makes it.

    Raises:
        LeaseLostError: the worker has no lease.
    """
    last_claim(tx, worker)
    found = look(tx, worker, name, every_ms, day)
    if found.wait_ms != 0:
        return None
    claim = RoundClaim(name, found.turn + 1, worker)
    is_taken = tx.run("round_take", name=name, turn=claim.turn, worker=worker.row, day=day)
    tx.run("rounds_prune", kept_ms=KEPT_MS)
    return claim if is_taken else None


def end(tx: Transaction, claim: RoundClaim, pause_ms: int, problem: str | None = None) -> None:
    """Note that the round is made, and is due again in ``pause_ms`` at the latest; ``problem`` says what went wrong.

    Raises:
        LeaseLostError: it is no longer this worker's, and what was found does not count.
    """
    named = {"name": claim.name, "turn": claim.turn, "worker": claim.worker.row}
    if tx.run("round_end", **named, pause_ms=pause_ms, problem=problem) == 0:
        raise LeaseLostError(f"{claim.name}: worker {claim.worker.worker_id} no longer holds turn {claim.turn} of it")
