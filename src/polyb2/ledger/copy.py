"""A ledger's whole content into another, empty one, whatever the store of either: page by page, then compared.

Invariants: the target is marked as unfinished from before its first row until both were found equal, and no command but a
copy opens it meanwhile; a copy that begins empties what an earlier one left, and an earlier one that still runs notices that.
The source is read twice, so that what changed in it while it was copied is found out. Memory holds a page.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from polyb2.core.errors import UsageError
from polyb2.ledger.store import Key, Store, Transaction
from polyb2.ledger.tables import LEFT_OUT, TABLES, UNFINISHED, Table
from polyb2.ledger.verbs.facts import fact, remember

PAGE_ROWS = 2000
_NAMED_MAX = 5
_COUNTS = ("dataset", "status", "files", "bytes", "bytes_done")


@dataclass(frozen=True, slots=True)
class Sum:
    """The number of rows of a table, and a digest of their normal form in the order of their keys."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A table of both ledgers: rows, and whether they are the same."""

    table: str
    rows: int
    rows_copied: int
    equal: bool


@dataclass(frozen=True, slots=True)
class Copied:
    """The end of a copy.

    Attributes:
        source: the place of the ledger that was copied.
        target: the place of the copy.
        checksum: of all tables of the source.
        tables: each table that is kept, and the counts by dataset and status.
    """

    source: str
    target: str
    checksum: str
    tables: list[Compared]

    @property
    def equal(self) -> bool:
        return all(table.equal for table in self.tables)

    @property
    def rows(self) -> int:
        """Rows that were copied."""
        return sum(table.rows_copied for table in self.tables if table.table != "counts")

    def as_json(self) -> dict[str, Any]:
        """The object of ``ledger copy --json``."""
        return {
            "from": self.source,
            "to": self.target,
            "equal": self.equal,
            "rows": self.rows,
            "checksum": self.checksum,
            "tables": [asdict(table) for table in self.tables],
        }


async def copy(source: Store, target: Store) -> Copied:
    """Copy everything into a ledger that is empty, or that an earlier copy left unfinished, and compare both.

    Where they differ the target stays unfinished.

    Raises:
        UsageError: processes work with either, or the target holds something.
        LedgerError: one cannot be used, or the source changed meanwhile.
    """
    await source.read(partial(_refuse_workers, source.place))
    mark = secrets.token_hex(8)
    await target.write("copy", partial(_begin, target.place, mark))
    shared = {table: await _columns(source, target, table) for table in TABLES}
    for table, columns in shared.items():
        await _copy_table(source, target, table, columns, mark)
    await target.write("copy", lambda tx: tx.end_filling(TABLES))
    copied = await _compare(source, target, shared)
    await source.read(partial(_refuse_workers, source.place))
    if copied.equal:
        await target.write("copy", partial(_end, target.place, mark))
    return copied


def _refuse_workers(place: str, tx: Transaction) -> None:
    names = [str(row["worker_id"]) for row in tx.rows("workers_live", window_ms=0)]
    if names:
        more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
        raise UsageError(
            f"{', '.join(names[:_NAMED_MAX])}{more} work with the ledger in {place}: stop them, and wait for "
            "POLYB2_LEASE_SECONDS where one was killed; then copy"
        )


def _begin(place: str, mark: str, tx: Transaction) -> None:
    _refuse_workers(place, tx)
    if fact(tx, UNFINISHED) is None:
        held = [table.name for table in TABLES if tx.dump(table, table.key, table.before, 1)]
        if held:
            raise UsageError(
                f"the ledger in {place} is not empty, it has {', '.join(held)}: a copy goes into a new one only; "
                "name another file or database with --to"
            )
    tx.empty([*(table.name for table in TABLES), *LEFT_OUT])
    remember(tx, UNFINISHED, mark)


def _end(place: str, mark: str, tx: Transaction) -> None:
    _refuse_another(place, mark, tx)
    remember(tx, UNFINISHED, None)


def _refuse_another(place: str, mark: str, tx: Transaction) -> None:
    if fact(tx, UNFINISHED) != mark:
        raise UsageError(f"another polyb2 ledger copy into {place} began meanwhile: let only one run")


async def _columns(source: Store, target: Store, table: Table) -> list[str]:
    """The columns that both stores have."""
    theirs = set(await target.read(lambda tx: tx.columns(table.name)))
    return [name for name in await source.read(lambda tx: tx.columns(table.name)) if name in theirs]


async def _copy_table(source: Store, target: Store, table: Table, columns: Sequence[str], mark: str) -> None:
    of_target = await target.read(lambda tx: tx.columns(table.name))
    added = {name: value for name, value in table.absent.items() if name in of_target and name not in columns}
    names, values = [*columns, *added], tuple(added.values())
    after = table.before
    while True:
        rows = await source.read(partial(_page, table, columns, after))
        if rows:
            whole = [(*row, *values) for row in rows]
            await target.write("copy", partial(_fill, target.place, mark, table, names, whole))
        if len(rows) < PAGE_ROWS:
            return
        after = _key(table, columns, rows[-1])


def _page(table: Table, columns: Sequence[str], after: Key, tx: Transaction) -> list[tuple[Any, ...]]:
    return tx.dump(table, columns, after, PAGE_ROWS)


def _key(table: Table, columns: Sequence[str], row: tuple[Any, ...]) -> Key:
    return tuple(row[columns.index(name)] for name in table.key)


def _fill(
    place: str, mark: str, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], tx: Transaction
) -> None:
    _refuse_another(place, mark, tx)
    tx.fill(table.name, columns, rows)
    if table.name == "files":
        # The schema added a first revision to each; theirs come with their own table.
        first, last = (_key(table, columns, row)[0] for row in (rows[0], rows[-1]))
        tx.run("revisions_delete_between", first=first, last=last)


async def _compare(source: Store, target: Store, shared: dict[Table, list[str]]) -> Copied:
    whole = hashlib.sha256()
    tables = []
    for table, columns in shared.items():
        ours, theirs = await asyncio.gather(*(_sum(store, table, columns) for store in (source, target)))
        whole.update(ours.digest.encode())
        tables.append(Compared(table.name, ours.rows, theirs.rows, ours == theirs))
    counted, copied = await asyncio.gather(source.read(_counts), target.read(_counts))
    tables.append(Compared("counts", len(counted), len(copied), counted == copied))
    return Copied(source.place, target.place, whole.hexdigest(), tables)


async def _sum(store: Store, table: Table, columns: Sequence[str]) -> Sum:
    digest, rows, after = hashlib.sha256(), 0, table.before
    while True:
        size, page, after = await store.read(partial(_sum_page, table, columns, after))
        rows += size
        digest.update(page)
        if size < PAGE_ROWS:
            return Sum(rows, digest.hexdigest())


def _sum_page(table: Table, columns: Sequence[str], after: Key, tx: Transaction) -> tuple[int, bytes, Key]:
    rows = tx.dump(table, columns, after, PAGE_ROWS)
    last = _key(table, columns, rows[-1]) if rows else after
    return len(rows), hashlib.sha256(json.dumps(rows).encode()).digest(), last


def _counts(tx: Transaction) -> list[list[Any]]:
    """The counts by dataset and status, which the schema of each store keeps by itself."""
    return [[row[name] for name in _COUNTS] for row in tx.rows("counts")]
