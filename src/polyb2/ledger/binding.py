"""What a ledger belongs to: one source and one target; and small facts it remembers of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from polyb2.core.errors import UsageError
from polyb2.ledger.database import Transaction

TARGET_ETAGS = "target_part_etags"
"""``opaque`` where an upload showed that the target's part ETags are not MD5s."""
FULL_LISTING = "full_listing_ms"
"""When the watch last listed the chosen datasets whole."""
FULL_LISTING_DAY = "full_listing_day"
"""On which day, US Eastern, that was."""

DISCOVERED = "discovered_ms"
"""When a discovery last ended well."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The pair a ledger is about; its bytes mean nothing for another."""

    source_endpoint: str
    source_bucket: str
    target_endpoint: str
    target_bucket: str
    target_prefix: str


def bound_to(tx: Transaction) -> Binding | None:
    """The pair that the ledger was first used with, or None for a new one."""
    values = [get_meta(tx, field.name) for field in fields(Binding)]
    return None if None in values else Binding(*map(str, values))


def bind(tx: Transaction, wanted: Binding) -> None:
    """Bind a ledger that has no files yet and owes no abort, or check a bound one.

    Raises:
        UsageError: the ledger belongs to another pair.
    """
    if check(tx, wanted):
        return
    write(tx, wanted)
    for name in (TARGET_ETAGS, FULL_LISTING, FULL_LISTING_DAY, DISCOVERED):
        set_meta(tx, name, None)
    for statement in ("listings_forget_all", "held_forget_all", "followed_forget_all"):
        tx.run(statement)


def check(tx: Transaction, wanted: Binding) -> bool:
    """Whether the ledger is bound to this pair; False where it is free to be.

    Raises:
        UsageError: the ledger belongs to another pair.
    """
    bound = bound_to(tx)
    obliged = tx.row("has_obligations")
    if bound is None or (bound != wanted and obliged is not None and not obliged["found"]):
        return False
    for field in fields(Binding):
        ours, theirs = getattr(bound, field.name), getattr(wanted, field.name)
        if ours != theirs:
            what = field.name.replace("_", " ")
            raise UsageError(
                f"this ledger belongs to the {what} {ours!r}, the settings name {theirs!r}: set DATABASE_URL to another "
                "file, or run polyb2 rebind if the same service only has a new endpoint"
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
    write(tx, wanted)


def write(tx: Transaction, wanted: Binding) -> None:
    for field in fields(Binding):
        set_meta(tx, field.name, getattr(wanted, field.name))


def get_meta(tx: Transaction, name: str) -> str | None:
    row = tx.row("meta_get", name=name)
    return None if row is None else str(row["value"])


def set_meta(tx: Transaction, name: str, value: str | None) -> None:
    """Keep a fact; None forgets it."""
    if value is None:
        tx.run("meta_delete", name=name)
    else:
        tx.run("meta_set", name=name, value=value)
