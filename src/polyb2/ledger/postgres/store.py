"""A ledger in a PostgreSQL database, which many hosts share.

Invariants: three connections a process, each with a thread of its own: writes, reads, and renewals of the lease, so that
nothing queued before it can lose it. Writes that come at the same time are committed together (``ledger/group_commit.py``).
A transaction whose answer was lost is looked up before anything is run again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import psycopg

from polyb2.core.errors import LedgerError, LedgerGoneError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.failpoints import failpoint
from polyb2.ledger.busy_retry import BusyRetry, Rule
from polyb2.ledger.group_commit import Batch, CommitUnknownError, GroupCommit, Outcome, Shared, Work, run_batch
from polyb2.ledger.postgres.checks import check_schema, check_server
from polyb2.ledger.postgres.connection import Server
from polyb2.ledger.postgres.errors import AGAIN
from polyb2.ledger.postgres.lane import Lane
from polyb2.ledger.postgres.transaction import (
    Connection,
    PostgresTransaction,
    Writer,
    last_committed,
    reading,
    writing,
)
from polyb2.ledger.rows import Check

log = logging.getLogger(__name__)
T = TypeVar("T")
Item = TypeVar("Item")
AGAIN_MAX = 8
"""Transactions in a row that another one undid; a pause of some milliseconds is between them."""
RENEWAL = "renew"
"""The name of the write that goes by a connection of its own."""


class PostgresStore:
    """An open ledger, as :class:`~polyb2.ledger.store.Store`; use :func:`~polyb2.ledger.postgres.open.open_store`."""

    exists = True

    def __init__(self, server: Server, retry: Rule | None = None) -> None:
        self._busy_retry = BusyRetry(retry)
        self.place = server.address.place
        self._server = server
        self._reading = Lane(server, self._busy_retry)
        self._writings = {name: _Writing(server, self._busy_retry) for name in ("", RENEWAL)}

    async def write(self, name: str, work: Callable[[PostgresTransaction], T]) -> T:
        return await self._write(name, work)

    async def write_shared(
        self, name: str, work: Callable[[PostgresTransaction, Sequence[Item]], list[T]], item: Item
    ) -> T:
        return await self._write(name, Shared(name, work, item))

    async def _write(self, name: str, work: Work[T]) -> T:
        failpoint(f"ledger.{name}.before")
        result = await self._writings[RENEWAL if name == RENEWAL else ""].commits.write(work)
        failpoint(f"ledger.{name}.after")
        return result

    async def read(self, work: Callable[[PostgresTransaction], T]) -> T:
        return await self._busy_retry.tried(lambda: self._reading.run(lambda connection: _read(connection, work)))

    @property
    def trouble(self) -> LedgerError | None:
        return self._busy_retry.problem

    @property
    def gone(self) -> LedgerGoneError | None:
        return next((one.gone for one in self._writings.values() if one.gone), None)

    @property
    def losses(self) -> int:
        # Renewals go by the other connection: one that was lost is granted again.
        return self._writings[""].losses

    async def watch(self) -> NoReturn:
        # Nothing to look at: the next write notices that the schema was removed.
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def examine(self) -> list[Check]:
        return await self._reading.run(check_server)

    async def check(self) -> list[Check]:
        return await self._busy_retry.tried(lambda: self._reading.run(check_schema))

    async def reader(self) -> PostgresStore:
        """The same ledger by connections of its own; its callers only read."""
        return PostgresStore(self._server, retry=lambda _error, _waited_s: False)

    async def close(self) -> None:
        for one in self._writings.values():
            await one.close()
        await self._reading.close()


class _Writing:
    """A connection for writes, with those that wait for it."""

    def __init__(self, server: Server, busy_retry: BusyRetry) -> None:
        self.gone: LedgerGoneError | None = None
        self.losses = 0
        self._lane = Lane(server, busy_retry)
        self.commits = GroupCommit(self._run, busy_retry.tried, self._lane.hurry)
        self._writer = Writer(secrets.token_hex(16))
        self._connection: Connection | None = None
        self._doubtful: dict[Work[Any], Outcome] = {}
        """The works of a transaction whose answer was lost, with their outcomes if it was committed."""

    async def close(self) -> None:
        await self.commits.idle()
        await self._lane.close()

    async def _run(self, batch: Batch) -> list[Outcome]:
        if self.gone is not None:
            raise self.gone
        try:
            return await self._lane.run(lambda connection: self._transact(connection, batch))
        except LedgerGoneError as error:
            self.gone = error
            raise
        except CommitUnknownError as error:
            self._doubtful = dict(zip(batch, error.outcomes, strict=True))
            raise LedgerError(
                "the server of the ledger was lost while it committed; that is looked up when it is back", may_pass=True
            ) from error

    def _transact(self, connection: Connection, batch: Batch) -> list[Outcome]:
        if self._doubtful or connection is not self._connection:
            is_committed = self._looked_up(connection)
            doubtful, self._doubtful = self._doubtful, {}
            if is_committed and batch and all(work in doubtful for work in batch):
                return [doubtful[work] for work in batch]
        return _until_not_undone(lambda: run_batch(lambda: writing(connection, self._writer), batch, _is_the_servers))

    def _looked_up(self, connection: Connection) -> bool:
        """Tell if the last transaction was committed, and note whether the server knows of those that it had confirmed."""
        writer, found = self._writer, 0
        if writer.number:
            found = last_committed(connection, writer)
            if found < writer.confirmed:
                self.losses += 1
                log.warning(
                    "the server of the ledger has lost what it had confirmed (a standby that took over, or a backup): "
                    "taking a new lease, and looking again at what is under way",
                    extra=log_fields(LogEvent.LEDGER_LOST),
                )
                writer.confirmed = found
        self._connection = connection
        return found == writer.number


def _read(connection: Connection, work: Work[T]) -> T:
    with reading(connection) as tx:
        return work(tx)


def _until_not_undone(transact: Callable[[], T]) -> T:
    """Run a transaction again that was undone because of another one's locks."""
    for _ in range(AGAIN_MAX - 1):
        try:
            return transact()
        except AGAIN:
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - a pause of a thread, no secret
    return transact()


def _is_the_servers(error: Exception) -> bool:
    """True for an error that ends the whole transaction; a constraint that a work violated ends that work."""
    return isinstance(error, (psycopg.Error, CommitUnknownError)) and not isinstance(error, psycopg.IntegrityError)
