"""The seam between the verbs and a database: what a store does for the ledger, and a transaction for a verb.

A store keeps its own affairs: files, locks, connections, how writes are gathered, its clock. The verbs (``verbs/``) are plain
functions over a :class:`Transaction` and name statements of ``sql/``, so that they are the same for every store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

from polyb2.core.errors import LedgerError, LedgerGoneError
from polyb2.ledger.rows import Check
from polyb2.ledger.tables import Table

T = TypeVar("T")
Item = TypeVar("Item")
Key = tuple[int | str, ...]


class Row(Protocol):
    """A row as the verbs read it; what leaves the ledger is typed (``rows.py``)."""

    def __getitem__(self, name: str, /) -> Any: ...  # noqa: ANN401 - of any column

    def keys(self) -> Collection[str]: ...


class Transaction(Protocol):
    """Named statements within one transaction.

    Lists among the parameters are passed as arrays; one that was passed is not changed before the transaction ends, so that
    a list that several statements take is put into the database's words once.
    """

    @property
    def now_ms(self) -> int:
        """The ledger's clock, epoch milliseconds; statements get it as ``:now_ms``."""

    def run(self, name: str, /, **parameters: object) -> int:
        """Run a statement; the number of rows that it changed."""

    def row(self, name: str, /, **parameters: object) -> Row | None:
        """The first row of a statement, or None."""

    def one(self, name: str, /, **parameters: object) -> Row:
        """The first row of a statement that always has one: an aggregate, or what RETURNING tells of an insert."""

    def rows(self, name: str, /, **parameters: object) -> Sequence[Row]:
        """All rows of a statement."""

    def columns(self, table: str) -> list[str]:
        """The columns of a table, in its order."""

    def dump(self, table: Table, columns: Sequence[str], after: Key, limit: int) -> list[tuple[Any, ...]]:
        """The rows behind a key, in the order of the keys."""

    def fill(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Insert many rows as they are, with their ids."""

    def empty(self, tables: Sequence[str]) -> None:
        """Delete all rows of the tables, each of which comes after those that it refers to."""

    def end_filling(self, tables: Sequence[Table]) -> None:
        """Do what the database needs after tables were filled: new rows are numbered on, plans know the tables."""


class Store(Protocol):
    """A database that holds a ledger. Every method may raise LedgerError."""

    @property
    def place(self) -> str:
        """The place of the ledger, in words for people; without secrets."""

    @property
    def exists(self) -> bool:
        """False where there is no ledger and none was made: this is an empty one that is gone when it is closed."""

    @property
    def trouble(self) -> LedgerError | None:
        """The error that writes or reads wait for now."""

    @property
    def gone(self) -> LedgerGoneError | None:
        """The error that says what became of the ledger, once that was noticed."""

    @property
    def losses(self) -> int:
        """How often the ledger turned out to have lost what was durable: then claims and leases may be another's."""

    async def write(self, name: str, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` as one write; all of it or nothing is in the ledger afterwards, and all of it is durable on return.

        ``work`` may be run again from the beginning, so it changes nothing but the ledger, and uses nothing up. A cancelled
        caller withdraws a write that has not begun; else the write ends before the cancellation goes on.
        """

    async def write_shared(self, name: str, work: Callable[[Transaction, Sequence[Item]], list[T]], item: Item) -> T:
        """As :meth:`write`, where ``work`` may do several items of this name at once, with a result for each."""

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` as one short read transaction on one state of the ledger."""

    async def reader(self) -> Store:
        """A second store on the same ledger that cannot write, and never waits for one that cannot be used just now.

        It is closed before this one.
        """

    async def watch(self) -> NoReturn:
        """Look again and again whether the ledger is still there (LedgerGoneError)."""

    async def examine(self) -> list[Check]:
        """The state of the place, for ``doctor``."""

    async def check(self) -> list[Check]:
        """What the database itself can tell of its soundness; reads all of it, and changes nothing."""

    async def close(self) -> None:
        """Let what was submitted end, then close, whatever the ledger's state."""
