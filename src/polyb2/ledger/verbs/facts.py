"""Facts of a ledger: its binding to a pair, small facts, notices that were sent, datasets that a watch follows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import date

from polyb2.core.errors import UsageError
from polyb2.core.keys import END
from polyb2.ledger.rows import DISCOVERED, TARGET_ETAGS, Binding
from polyb2.ledger.store import Transaction

NOTICES_KEPT_MS = 90 * 24 * 3600 * 1000
"""A notice older than this may be sent again; nothing older than a month is looked at."""
SENDING_MS = 120_000
"""A notice that was claimed so long ago and not noted may be sent by another: sending has shorter time limits."""


def bound_to(tx: Transaction) -> Binding | None:
    """The pair that the ledger was first used with, or None for a new one."""
    values = [fact(tx, field.name) for field in fields(Binding)]
    return None if None in values else Binding(*map(str, values))


def bind(tx: Transaction, wanted: Binding) -> None:
    """Bind a ledger that has no files yet and owes no abort, or check a bound one.

    Raises:
        UsageError: the ledger belongs to another pair.
    """
    if check(tx, wanted):
        return
    _write(tx, wanted)
    for name in (TARGET_ETAGS, DISCOVERED):
        remember(tx, name, None)
    for statement in ("listings_forget_all", "held_forget_all", "followed_forget_all", "rounds_forget_all"):
        tx.run(statement)


def check(tx: Transaction, wanted: Binding) -> bool:
    """True if the ledger is bound to this pair; False where it is free to be.

    Raises:
        UsageError: the ledger belongs to another pair.
    """
    bound = bound_to(tx)
    if bound is None or (bound != wanted and not tx.one("has_obligations")["found"]):
        return False
    for field in fields(Binding):
        ours, theirs = getattr(bound, field.name), getattr(wanted, field.name)
        if ours != theirs:
            what = field.name.replace("_", " ")
            raise UsageError(
                f"this ledger belongs to the {what} {ours!r}, the settings name {theirs!r}: set DATABASE_URL to another "
                "ledger, or run polyb2 rebind if the same service only has a new endpoint"
            )
    return True


def rebind(tx: Transaction, wanted: Binding) -> None:
    """Write the new endpoints into a bound ledger.

    Raises:
        UsageError: a bucket or the prefix differs: that is another mirror, not a new name.
    """
    bound = bound_to(tx)
    for name in ("source_bucket", "target_bucket", "target_prefix"):
        if bound is not None and getattr(bound, name) != getattr(wanted, name):
            raise UsageError(
                f"the {name.replace('_', ' ')} differs ({getattr(bound, name)!r} in the ledger, {getattr(wanted, name)!r} "
                "in the settings): only an endpoint can be renamed; use another DATABASE_URL for another mirror"
            )
    _write(tx, wanted)


def _write(tx: Transaction, wanted: Binding) -> None:
    for field in fields(Binding):
        remember(tx, field.name, getattr(wanted, field.name))


def fact(tx: Transaction, name: str) -> str | None:
    row = tx.row("fact_get", name=name)
    return None if row is None else str(row["value"])


def remember(tx: Transaction, name: str, value: str | None) -> None:
    """Keep a fact; None forgets it."""
    if value is None:
        tx.run("fact_delete", name=name)
    else:
        tx.run("fact_set", name=name, value=value)


def new_notices(tx: Transaction, names: Collection[str], sender: str) -> set[str]:
    """Those of the names that the owner was not notified of, and that no other sender is about to send."""
    known = tx.rows("notices_known", names=sorted(names), sender=sender, sending_ms=SENDING_MS)
    return set(names) - {row["name"] for row in known}


def claim_notices(tx: Transaction, names: Collection[str], sender: str) -> set[str]:
    """Those of the names that are now ``sender``'s to send, until it notes or releases them, or lets them lie."""
    claimed = tx.rows("notices_claim", names=_each(names), sender=sender, sending_ms=SENDING_MS)
    return {row["name"] for row in claimed}


def release_notices(tx: Transaction, names: Collection[str], sender: str) -> None:
    """Let notices that ``sender`` claimed, and could not send, be sent by any."""
    tx.run("notices_unclaim", names=sorted(names), sender=sender)


def note_notices(tx: Transaction, names: Collection[str]) -> None:
    """Keep what the owner was notified of, so that neither the next cycle nor a restart says it again."""
    tx.run("notices_set", names=_each(names))
    tx.run("notices_prune", kept_ms=NOTICES_KEPT_MS)


def forget_notices(tx: Transaction, prefix: str) -> int:
    """Let what begins with ``prefix`` be sent again."""
    return tx.run("notices_forget", after=prefix, before=prefix + END)


def _each(names: Collection[str]) -> list[tuple[str]]:
    """The names in their order, in which the rows are locked."""
    return [(name,) for name in sorted(names)]


def followed(tx: Transaction) -> Mapping[str, date]:
    """The first date that a watch ever looked at, by dataset."""
    return {row["dataset"]: date.fromisoformat(row["since"]) for row in tx.rows("followed")}


def follow(tx: Transaction, datasets: Collection[str], since: date) -> None:
    """Note that a watch looked at these datasets from ``since`` on."""
    for dataset in datasets:
        tx.run("followed_set", dataset=dataset, since=since.isoformat())
