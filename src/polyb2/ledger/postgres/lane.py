"""A connection with a thread of its own: made when it is first used, and again after each loss.

Invariant: a server that does not answer is trouble of the ledger like any other, and keeps no process from its end.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from os import dup
from queue import SimpleQueue
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row

from polyb2.core.errors import LedgerBusyError, LedgerError
from polyb2.ledger.busy_retry import BusyRetry
from polyb2.ledger.group_commit import ended
from polyb2.ledger.postgres.connection import Server
from polyb2.ledger.postgres.errors import ends_connection, translated
from polyb2.ledger.postgres.transaction import Connection

T = TypeVar("T")
AGE_MAX_S = 600.0
"""A connection is made again after this time: names may lead to another server since, and an old one would not notice."""
SILENT_S = 5.0
"""A server that has not answered for so long is trouble, and is waited for as long as the rule of the ledger says."""
ANSWER_S = 45.0
"""No statement takes as long (``transaction.SETTINGS``): the server stands still, or is another one by now."""
HURRIED_S = 1.0
"""An answer that nobody waits for any more is waited for no longer than this."""
LOOK_S = 0.5


class Lane:
    """One connection, used by one thread, one piece of work after the other."""

    def __init__(self, server: Server, busy_retry: BusyRetry) -> None:
        self._server = server
        self._busy_retry = busy_retry
        self._hand: _Hand | None = None

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of ``work``, which ends before a cancellation goes on.

        Raises:
            LedgerError: the server cannot be used; the next call connects again.
            UsageError: the server refuses the very first connection, or the opening of a ledger.
        """
        if self._hand is None:
            self._hand = _Hand(self._server)
            self._hand.start()
        hand = self._hand
        job = hand.submit(work)
        looking = asyncio.get_running_loop().call_later(LOOK_S, self._look, hand, job)
        try:
            result = await ended(asyncio.wrap_future(job), self.hurry)
            self._busy_retry.over(job)
            return result
        finally:
            looking.cancel()
            self._busy_retry.forget(job)

    def hurry(self) -> None:
        """Have the work that is under way end, as nobody waits for its result: a silent server is waited for no longer."""
        if self._hand is not None:
            self._hand.is_hurried = True

    async def close(self) -> None:
        """Close the connection once its work has ended."""
        if self._hand is not None:
            self.hurry()
            self._hand.stop()
            ending = asyncio.wrap_future(self._hand.ended)
            await ended(ending)

    def _look(self, hand: _Hand, job: Future[Any]) -> None:
        """Give a server up that has been silent for too long, or tell that it is waited for."""
        if job.done():
            return
        asyncio.get_running_loop().call_later(LOOK_S, self._look, hand, job)
        silent_s, is_hurried = hand.silent_s(), hand.is_hurried
        if silent_s < (HURRIED_S if is_hurried else SILENT_S):
            return
        words = f"the ledger in {self._server.address.place} has not answered for {silent_s:.0f} s; check the server"
        error = LedgerBusyError(words)
        self._busy_retry.waiting(job, error)
        if not is_hurried and silent_s < ANSWER_S and self._busy_retry.goes_on(error, silent_s):
            return
        if hand.is_connecting:
            # Nothing was asked yet. The thread may be in the resolver, from which nothing wakes it.
            hand.give_up(error)
            self._hand = None if self._hand is hand else self._hand
        else:
            hand.cut(error)


class _Hand(threading.Thread):
    """The thread of a lane. A daemon: one that hangs in the resolver must not keep the process from its end."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="ledger", daemon=True)
        self.is_hurried = False
        self.ended: Future[None] = Future()
        self._server = server
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[Connection], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._job: Future[Any] | None = None
        self._connecting_s = 0.0
        self._is_given_up = False
        self._given_up: LedgerError | None = None
        self._made_s = 0.0
        self._losses = 0

    # -- called by the loop -------------------------------------------------------------------------------------------

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        job: Future[T] = Future()
        self._jobs.put((job, work))
        return job

    def stop(self) -> None:
        """End once the work that was submitted has ended."""
        self._jobs.put(None)

    @property
    def is_connecting(self) -> bool:
        return self._connecting_s > 0

    def silent_s(self) -> float:
        """Seconds for which the server owes an answer, or a connection; 0 where it owes none."""
        connection = self._connection
        asked_s = self._connecting_s or (connection.asked_s if connection is not None else 0.0)
        return time.monotonic() - asked_s if asked_s else 0.0

    def cut(self, error: LedgerError) -> None:
        """End the wait for an answer with an error: the connection is lost for the thread, as any other that is lost."""
        with self._lock, suppress(psycopg.Error, OSError):
            self._given_up = error
            if self._connection is not None and not self._connection.closed:
                with socket.socket(fileno=dup(self._connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    def give_up(self, error: LedgerError) -> None:
        """Leave the thread to itself while it connects; it uses no connection any more."""
        with self._lock:
            self._is_given_up = True
            if self._job is not None and not self._job.done():
                self._job.set_exception(error)
            while not self._jobs.empty():
                if (waiting := self._jobs.get()) is not None:
                    waiting[0].set_exception(error)
            self.ended.set_result(None)
            self._jobs.put(None)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        while (taken := self._jobs.get()) is not None:
            job, work = taken
            if not job.set_running_or_notify_cancel():
                continue
            self._job = job
            try:
                result, error = self._done(work), None
            except BaseException as raised:  # noqa: BLE001 - raised where the result is waited for
                result, error = None, raised
            with self._lock:
                if self._is_given_up:
                    break
                self._job, self.is_hurried = None, False
            job.set_result(result) if error is None else job.set_exception(error)
            del job, work, taken, result, error
        self._drop()
        if not self._is_given_up:
            self.ended.set_result(None)

    def _done(self, work: Callable[[Connection], T]) -> T:
        server = self._server
        with translated(server.address.place, is_first=server.is_opening or not server.was_open):
            connection = self._connected()
            try:
                return work(connection)
            except BaseException as error:
                if connection.closed or (isinstance(error, psycopg.Error) and ends_connection(error)):
                    server.losses += 1
                    self._drop()
                if self._given_up is not None and isinstance(error, psycopg.Error):
                    raise self._given_up from error
                raise
            finally:
                self._given_up = None

    def _connected(self) -> Connection:
        now_s, server = time.monotonic(), self._server
        held = self._connection
        if held is not None and (held.closed or now_s - self._made_s > AGE_MAX_S or self._losses != server.losses):
            self._drop()
        if self._connection is None:
            self._losses, self._connecting_s = server.losses, now_s
            try:
                connection = Connection.connect(server.address.conninfo, autocommit=True, row_factory=dict_row)
            finally:
                self._connecting_s = 0.0
            with self._lock:
                self._connection = connection
            try:
                connection.look_at_pooling()
            except BaseException:  # raised again; a connection without its settings must not be used
                self._drop()
                raise
            self._made_s, server.was_open = now_s, True
        if self._is_given_up:
            raise LedgerError("nobody waits for this connection any more", may_pass=True)
        assert self._connection is not None  # noqa: S101 - just made
        return self._connection

    def _drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
