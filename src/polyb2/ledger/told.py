"""What the owner was notified of, so that neither the next cycle nor a restart says it again."""

from __future__ import annotations

from collections.abc import Iterable

from polyb2.ledger.database import Transaction

KEPT_MS = 90 * 24 * 3600 * 1000
"""What was told longer ago than this may be told again; nothing older than a month is looked at."""


def fresh(tx: Transaction, names: Iterable[str]) -> set[str]:
    """Those of the names that were not told yet."""
    return {name for name in names if tx.row("told_get", name=name) is None}


def note(tx: Transaction, names: Iterable[str], now_ms: int) -> None:
    """Keep what was told."""
    for name in names:
        tx.run("told_set", name=name, told_ms=now_ms)
    tx.run("told_prune", before_ms=now_ms - KEPT_MS)


def forget(tx: Transaction, prefix: str) -> int:
    """Let what begins with ``prefix`` be told again."""
    return tx.run("told_forget", after=prefix, before=f"{prefix}\U0010ffff")
