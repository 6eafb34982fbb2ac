"""The soundness of a ledger's content: what its rows say of each other, whatever the store. Reads all rows, changes none."""

from __future__ import annotations

from polyb2.ledger.rows import Check, Level
from polyb2.ledger.store import Transaction

_CHECKS = (
    ("counts", "check_counts", "the kept counts are those of a recount", "{} counts by dataset and status are wrong"),
    ("parents", "check_parents", "each row has the one that it belongs to", "{} rows lack the one they belong to"),
    ("revisions", "check_revisions", "each file has its revision", "{} files lack their revision"),
    ("claims", "check_claims", "each claim has its worker and attempt", "{} claims lack their worker or attempt"),
)
_ADVICE = (
    "restore the ledger from a backup, or set DATABASE_URL to a new one: polyb2 discover adopts what is in the bucket"
)


def check(tx: Transaction) -> list[Check]:
    """The checks of the rows."""
    return [_check(tx, *check) for check in _CHECKS]


def _check(tx: Transaction, name: str, statement: str, right: str, wrong: str) -> Check:
    row = tx.one(statement)
    if not row["wrong"]:
        return Check(name, Level.PASS, right)
    return Check(name, Level.FAIL, f"{wrong.format(row['wrong'])}, the first: {row['first']}", _ADVICE)
