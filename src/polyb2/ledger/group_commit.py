"""Group commit: writes that come while another is being made durable share one transaction and one fsync.

Invariants: a write is answered only when it is durable; each is whole or not there, whatever becomes of those beside it
(where one fails, all are done again with a savepoint each); their order is that in which they came, but those of a kind
that can be done at once come with the first of them. A caller that is cancelled withdraws its write as long as it has not
begun, and else waits for its end (milliseconds) before the cancellation goes on; a write that failed meanwhile because the
ledger cannot be used is not tried again for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from polyb2.ledger.store import Transaction

T = TypeVar("T")
Item = TypeVar("Item")
TOGETHER_MAX = 64
"""Writes of one transaction: more would let the first wait for the last."""
Work = Callable[[Any], T]
"""A function of a transaction of the store, which knows its type."""


class SplitTransaction(Transaction, Protocol):
    """A transaction of which a piece can fail alone."""

    def apart(self) -> AbstractContextManager[None]:
        """A savepoint around a piece: an error within undoes the piece, and goes on."""


@dataclass(slots=True, eq=False)
class Write(Generic[T]):
    """A write that waits, is under way or has ended."""

    work: Work[T]
    done: asyncio.Future[T]
    has_begun: bool = False
    is_unwanted: bool = False

    def withdraw(self) -> None:
        self.is_unwanted = True
        if not self.has_begun:
            self.done.cancel()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a write, or the error that undid it alone."""

    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Shared(Generic[Item, T]):
    """A write that is done at once with those of its kind in the same transaction; alone where it is called.

    Attributes:
        kind: the name of those that ``work`` can do together.
        work: does all the items that it is given; a result for each.
        item: what this one is about.
    """

    kind: str
    work: Callable[[Any, Sequence[Item]], list[T]]
    item: Item

    def __call__(self, tx: Transaction) -> T:
        return self.work(tx, [self.item])[0]


Batch = Sequence[Work[Any]]


class CommitUnknownError(Exception):
    """The server was lost before its answer to COMMIT came; ``outcomes`` are those of the works if it was committed."""

    def __init__(self) -> None:
        super().__init__("the answer to COMMIT was lost")
        self.outcomes: list[Outcome] = []


class GroupCommit:
    """Gathers writes and has them run together, one transaction after the other."""

    def __init__(
        self,
        run: Callable[[Batch], Awaitable[list[Outcome]]],
        tried: Callable[..., Awaitable[Any]],
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        """Take what runs a batch, what tries that again, and what to call when a caller was cancelled."""
        self._run = run
        self._tried = tried
        self._hurry = hurry
        self._waiting: list[Write[Any]] = []
        self._running: asyncio.Task[None] | None = None

    async def write(self, work: Work[T]) -> T:
        """Have ``work`` done in a transaction; its result once that is durable, or what it raised."""
        write = Write(work, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._running is None:
            self._running = asyncio.create_task(self._run_all(), name="ledger commits")

        def on_cancel() -> None:
            write.withdraw()
            self._hurry()

        return await ended(write.done, on_cancel)

    async def idle(self) -> None:
        """Wait until nothing is waiting or under way."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run_all(self) -> None:
        try:
            while self._waiting:
                together, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
                try:
                    await self._tried(lambda writes=together: self._once(writes))
                except Exception as error:  # noqa: BLE001 - trouble of the ledger is that of every write
                    _fail(together, error)
        finally:
            self._running = None

    async def _once(self, writes: list[Write[Any]]) -> None:
        wanted = [write for write in writes if not write.done.done()]
        if not wanted:
            return
        for write in wanted:
            write.has_begun = True
        try:
            outcomes = await self._run([write.work for write in wanted])
        except BaseException:  # raised again
            for write in wanted:
                if write.is_unwanted:
                    write.done.cancel()
            raise
        finally:
            for write in wanted:
                write.has_begun = False
        for write, outcome in zip(wanted, outcomes, strict=True):
            if outcome.error is None:
                write.done.set_result(outcome.result)
            else:
                write.done.set_exception(outcome.error)


async def ended(future: asyncio.Future[T], on_cancel: Callable[[], None] = lambda: None) -> T:
    """The future's result; however often the caller is cancelled, the future ends before that goes on."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    if cancelled is not None:
        if not future.cancelled():
            # Retrieved, so that asyncio does not log "never retrieved"; the caller gets the CancelledError.
            future.exception()
        raise cancelled
    return future.result()


def _fail(writes: list[Write[Any]], error: Exception) -> None:
    for write in writes:
        if not write.done.done():
            write.done.set_exception(error)


def run_batch(
    begin: Callable[[], AbstractContextManager[SplitTransaction]], batch: Batch, is_stores: Callable[[Exception], bool]
) -> list[Outcome]:
    """Run the works in one transaction: hardly ever does one fail, and only then is each kept apart, in another.

    A savepoint around them all would cost a page of new files an eighth of its time: within one SQLite keeps what every
    statement changed, and walks along it at the end of each.

    Args:
        begin: a transaction, committed at the end of the block.
        batch: the works.
        is_stores: True for an error that ends the whole transaction, whatever the work.
    """
    try:
        return _committed(begin, lambda tx: list(map(Outcome, _results(tx, batch))))
    except Exception as error:
        if is_stores(error):
            raise
        if len(batch) == 1:
            return [Outcome(error=error)]
    return _committed(begin, lambda tx: [_isolated(tx, work, is_stores) for work in batch])


def _committed(
    begin: Callable[[], AbstractContextManager[SplitTransaction]], run: Callable[[SplitTransaction], list[Outcome]]
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    try:
        with begin() as tx:
            outcomes = run(tx)
    except CommitUnknownError as error:
        error.outcomes = outcomes
        raise
    return outcomes


def _results(tx: Transaction, batch: Batch) -> list[Any]:
    """The result of each; those of a kind are done with the first of them."""
    results: dict[int, Any] = {}
    for index, work in enumerate(batch):
        if index in results:
            continue
        if not isinstance(work, Shared):
            results[index] = work(tx)
            continue
        kin = {at: one.item for at, one in enumerate(batch) if isinstance(one, Shared) and one.kind == work.kind}
        results |= zip(kin, work.work(tx, list(kin.values())), strict=True)
    return [results[index] for index in range(len(batch))]


def _isolated(tx: SplitTransaction, work: Work[Any], is_stores: Callable[[Exception], bool]) -> Outcome:
    try:
        with tx.apart():
            return Outcome(work(tx))
    except Exception as error:
        if is_stores(error):
            raise
        return Outcome(error=error)
