"""The tables of a ledger that a copy keeps, in an order in which each comes after those that it refers to.

Both stores have them with the same columns, but for those that are named here. A row has one normal form, whatever the store:
what a page of a table reads, in the order of its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from polyb2.core.errors import LedgerError
from polyb2.core.scrub import one_line

UNFINISHED = "copying"
"""A fact: a copy into this ledger began and did not end, with the mark of that copy."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table with what is read of it.

    Attributes:
        name: of it.
        key: columns that are unique and give the order; their types begin at ``before``.
        before: lower than any key.
        where: the rows that are kept.
        instead: what is read for a column, as SQL.
        absent: what a store writes into a column of its own that the other store does not have.
    """

    name: str
    key: tuple[str, ...]
    before: tuple[int | str, ...]
    where: str = "TRUE"
    instead: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_numbered(self) -> bool:
        """True if the database numbers new rows."""
        return self.key == ("id",)

    def page(self, columns: Sequence[str], mark: str) -> str:
        """A statement that reads the rows behind a key; its parameters, each a ``mark``, are the key and a limit."""
        read = ", ".join(f"{self.instead[name]} AS {name}" if name in self.instead else name for name in columns)
        key, marks = ", ".join(self.key), ", ".join(mark for _ in self.key)
        return f"SELECT {read} FROM {self.name} WHERE {self.where} AND ({key}) > ({marks}) ORDER BY {key} LIMIT {mark}"  # noqa: S608 - names of this module and of the schema


TABLES = (
    # Only those that files are still claimed by. They work no longer, and their lease is another clock's: they have ended.
    Table(
        "workers", ("id",), (-1,),
        where="id IN (SELECT worker FROM files WHERE worker IS NOT NULL)",
        instead={"ended_ms": "coalesce(ended_ms, lease_wall_ms)"},
        absent={"boot_id": "", "lease_mono_ms": 0},
    ),
    Table("datasets", ("dataset",), ("",)),
    Table("files", ("id",), (-1,)),
    Table("revisions", ("file_id", "revision"), (-1, -1)),
    Table("attempts", ("file_id", "attempt"), (-1, -1)),
    Table("uploads", ("id",), (-1,)),
    Table("parts", ("upload", "number"), (-1, -1)),
    Table("listings", ("dataset", "month"), ("", "")),
    Table("held", ("key",), ("",)),
    Table("followed", ("dataset",), ("",)),
    Table("notices", ("name",), ("",)),
    # A round is no worker's there: one that was being made is free, and one of a day counts.
    Table("rounds", ("name",), ("",), instead={"worker": "0"}),
    Table("facts", ("name",), ("",), where=f"name <> '{UNFINISHED}'"),
)  # fmt: skip
LEFT_OUT = {
    "counts": "the schema counts the files that are filled in",
    "loads": "what running processes are up to",
    "turns": "whose turn it is among the datasets of a running process",
    "throughput": "the rates of processes that ended",
}
"""Tables of both stores that a copy leaves out, and why."""


def unfit(table: str, found: str) -> LedgerError:
    """The error of rows that the schema refuses."""
    return LedgerError(
        f"the table {table} cannot be filled: {one_line(found)}; if the source was used while it was copied, copy again, "
        "else polyb2 ledger check looks at it"
    )
