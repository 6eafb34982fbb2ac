"""Files that a watch found and did not queue, as they are much and no one was there to ask.

A held file changes no row: what the mirror has is still proven. It is forgotten once it is queued, or when the source lists
something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polyb2.core.compare import Plan
from polyb2.ledger.rows import Discovered
from polyb2.ledger.status_report import DATASETS_NAMED_MAX, DATES_NAMED_MAX, Held
from polyb2.ledger.store import Transaction
from polyb2.ledger.verbs.listings import values

_REPLACING = {Plan.REVISED, Plan.REVISED_HELD}


def hold(tx: Transaction, found: Sequence[Discovered]) -> None:
    """Keep files that were found and are not queued."""
    tx.run("held_set", files=[(*values(item), int(item.plan in _REPLACING)) for item in found])


def release(tx: Transaction, keys: Iterable[str]) -> None:
    """Forget held files: they are queued now, or the source lists something else."""
    tx.run("held_delete", keys=list(keys))


def held_of(tx: Transaction, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
    """ETag and size of what is held of these keys."""
    return {row["key"]: (row["source_etag"], row["size"]) for row in tx.rows("held_of", keys=list(keys))}


def held_between(tx: Transaction, after: str, last: str, limit: int) -> list[str]:
    """Keys of held files with ``after < key <= last``, in their order, at most ``limit``."""
    return [row["key"] for row in tx.rows("held_between", after=after, last=last, limit=limit)]


def summary(tx: Transaction) -> Held:
    """Everything that is held, summed up."""
    row = tx.row("held_summary")
    if row is None or not row["files"]:
        return Held()
    return Held(
        files=row["files"],
        bytes=int(row["bytes"]),
        replaced=row["replaced"],
        dates=tuple(row["date"] for row in tx.rows("held_dates", limit=DATES_NAMED_MAX + 1)),
        last=row["last"],
        datasets=tuple(row["dataset"] for row in tx.rows("held_datasets", limit=DATASETS_NAMED_MAX + 1)),
    )
