"""Each write of the ledger meets a ledger that is held, full or read-only; real SQLite says so.

For a moment: the engine waits, says so, loses nothing and goes on. For longer than its patience: it ends, and the next run
goes on.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar
from unittest.mock import patch

from polyb2.ledger.group_commit import Shared
from polyb2.ledger.sqlite.store import SqliteStore
from polyb2.ledger.store import Transaction
from polyb2.ledger.verbs.facts import remember
from polyb2.sandbox import Drip, Fault
from tests.faults.scenes import Case, queued, superseded
from tests.faults.watch import must
from tests.faults.world import MIB, World

T = TypeVar("T")
HELD_S = 0.2
WRITES = ("register", "claim", "begin", "receipt", "note", "complete", "end", "renew")
"""The writes of a run that mirrors one large and two small files."""
_BALLAST = "x" * 100_000


def ledger_cases() -> Iterator[Case]:
    """All of them, in a stable order."""
    for fault in ("held by another program", "full", "read-only"):
        for verb in WRITES:
            yield Case(
                f"ledger write: {verb}", fault, "once", _arm(verb, fault, HELD_S), queued, heals=True, free=True,
                settings={"polyb2_lease_seconds": 1.0, "polyb2_give_up": 20.0},
            )  # fmt: skip
        yield Case(
            "ledger write: forget", fault, "once", _arm("forget", fault, HELD_S), superseded, heals=True,
            settings={"polyb2_give_up": 20.0},
        )  # fmt: skip
        for verb in ("receipt", "complete"):
            yield Case(
                f"ledger write: {verb}", fault, "always", _arm(verb, fault, None), queued, torn=True,
                settings={"polyb2_lease_seconds": 1.0, "polyb2_give_up": 0.5},
            )  # fmt: skip


def _arm(verb: str, fault: str, for_s: float | None) -> Callable[[World], None]:
    def arm(world: World) -> None:
        trouble = _Trouble(world, verb, fault, for_s)
        world.patches.enter_context(patch.object(SqliteStore, "_write", trouble.write_of(SqliteStore._write)))
        world.cures.append(trouble.end)
        # Slow enough for a heartbeat to come.
        world.box.source.inject(Fault("get", Drip(24 * MIB), times=0))

    return arm


class _Trouble:
    """Begins just before the first write of a verb."""

    def __init__(self, world: World, verb: str, fault: str, for_s: float | None) -> None:
        self._world = world
        self._verb = verb
        self._fault = fault
        self._for_s = for_s
        self._is_on = False
        self._has_struck = False
        self._undo: Callable[[], Any] = lambda: None

    def write_of(self, write: Callable[..., Any]) -> Callable[..., Any]:
        async def writing(database: SqliteStore, name: str, work: Callable[[Transaction], T]) -> T:
            if name == self._verb and not self._has_struck:
                await self._begin(database)
            if isinstance(work, Shared):
                together = work.work
                burdened = lambda tx, items: self._burdened(tx, together(tx, items))  # noqa: E731
                result: T = await write(database, name, replace(work, work=burdened))
            else:
                result = await write(database, name, lambda tx: self._burdened(tx, work(tx)))
            return result

        return writing

    def _burdened(self, tx: Transaction, result: T) -> T:
        if self._is_on and self._fault == "full":
            remember(tx, "ballast", _BALLAST)  # so that every write needs room
        return result

    async def _begin(self, database: SqliteStore) -> None:
        self._has_struck = self._is_on = True
        if self._fault == "held by another program":
            self._hold()
        else:
            await self._set(database, on=True)
            self._undo = lambda: self._set(database, on=False)
        if self._for_s is not None:
            self._world.later(self._for_s, self.end)

    def _hold(self) -> None:
        path = self._world.folder / "ledger.db"
        taken = path.with_name("ledger.db.lock").open("w")
        fcntl.flock(taken, fcntl.LOCK_EX)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        def let_go() -> None:
            other.close()
            taken.close()

        self._undo = let_go

    async def _set(self, database: SqliteStore, *, on: bool) -> None:
        if self._fault == "full":
            pragma = "PRAGMA max_page_count = 1" if on else f"PRAGMA max_page_count = {2**32 - 2}"
        else:
            pragma = f"PRAGMA query_only = {int(on)}"
        # Closed, its thread may still live for a moment.
        if database._connection._connection is not None:
            await database._submit(lambda connection, _: connection.execute(pragma).fetchall(), None)

    async def end(self) -> None:
        """Over, if it is not already."""
        must(self._has_struck, f"there was no write {self._verb}")
        if self._is_on:
            self._is_on = False
            undone = self._undo()
            if asyncio.iscoroutine(undone):
                await undone
