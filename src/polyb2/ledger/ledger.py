"""The verbs of the ledger by subject: what the flow may do to the durable state, and all it may do.

Every verb is one transaction, whatever the store, and a write is durable when it returns; each may raise LedgerError. A verb
has the parameters and the meaning of the function in ``verbs/`` that it names; the name of a write is that of its failpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from polyb2.clock import Clock
from polyb2.core.coverage import YearCalendar
from polyb2.core.errors import LedgerError, LedgerGoneError
from polyb2.core.records import Claim, KnownFile, Mirrored, Upload
from polyb2.core.selection import Selection
from polyb2.ledger.copy import Copied, copy
from polyb2.ledger.rows import Check, FileRow, Filter
from polyb2.ledger.store import Store, Transaction
from polyb2.ledger.verbs import (
    claims,
    days,
    facts,
    leases,
    listings,
    rounds,
    selection,
    settlements,
    soundness,
    uploads,
)
from polyb2.ledger.verbs import status as reports

PAGE_ROWS = 500
BATCH_ROWS = 1000
"""Rows that one transaction puts back or takes out: some ten milliseconds, so that a run beside it is not held up."""
P = ParamSpec("P")
T = TypeVar("T")
Act = Callable[[Transaction, list[int]], int]
Verb = Callable[Concatenate[Transaction, P], T]
Method = Callable[Concatenate["Ledger", P], Coroutine[Any, Any, T]]


def write(name: str, verb: Verb[P, T]) -> Method[P, T]:
    """The verb as a method: one write transaction."""

    async def run(ledger: Ledger, /, *given: P.args, **named: P.kwargs) -> T:
        return await ledger._store.write(name, lambda tx: verb(tx, *given, **named))  # noqa: SLF001 - a method of it

    return run


def read(verb: Verb[P, T]) -> Method[P, T]:
    """The verb as a method: one short read transaction."""

    async def run(ledger: Ledger, /, *given: P.args, **named: P.kwargs) -> T:
        return await ledger._store.read(lambda tx: verb(tx, *given, **named))  # noqa: SLF001 - a method of it

    return run


class Ledger:
    """An open ledger; :func:`~polyb2.ledger.open.open_ledger` makes one.

    Attributes:
        clock: of this host.
        place, exists, close, watch, examine: those of the store.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self.clock = clock
        self.place, self.exists = store.place, store.exists
        self.close, self.watch, self.examine = store.close, store.watch, store.examine

    async def reader(self) -> Ledger:
        """The same ledger through a connection that cannot write, for observers; it is closed before this one.

        A question to it does not wait for a ledger that cannot be read just now.
        """
        return Ledger(await self._store.reader(), self.clock)

    @property
    def gone(self) -> LedgerGoneError | None:
        """The error that says what became of the ledger, once that was noticed; None while it is there."""
        return self._store.gone

    @property
    def trouble(self) -> LedgerError | None:
        """The error that writes or reads wait for now."""
        return self._store.trouble

    async def copy_to(self, target: Ledger) -> Copied:
        """Copy everything into an empty ledger, see :func:`~polyb2.ledger.copy.copy`."""
        return await copy(self._store, target._store)

    async def check(self) -> list[Check]:
        """The checks of the database and of the rows; all are read, none is changed."""
        return [*await self._store.check(), *await self._store.read(soundness.check)]

    @property
    def losses(self) -> int:
        """How often the ledger turned out to have lost what was durable: a server that was replaced by an older copy."""
        return self._store.losses

    # -- facts --------------------------------------------------------------------------------------------------------

    bind = write("bind", facts.bind)
    check_binding = read(facts.check)
    rebind = write("rebind", facts.rebind)
    fact = read(facts.fact)
    remember = write("remember", facts.remember)
    new_notices = read(facts.new_notices)
    claim_notices = write("claim_notices", facts.claim_notices)
    release_notices = write("release_notices", facts.release_notices)
    note_notices = write("notices", facts.note_notices)
    forget_notices = write("forget_notices", facts.forget_notices)
    followed = read(facts.followed)
    follow = write("follow", facts.follow)

    # -- workers and claims -------------------------------------------------------------------------------------------

    register = write("register", leases.register)
    renew = write("renew", leases.renew)
    end_worker = write("end", leases.end)
    claim_up_to = write("claim", claims.claim_up_to)
    queue_state = read(claims.queue_state)

    # -- rounds -------------------------------------------------------------------------------------------------------

    round = read(rounds.look)
    take_round = write("take_round", rounds.take)
    end_round = write("end_round", rounds.end)

    # -- uploads ------------------------------------------------------------------------------------------------------

    has_progressed = write("progress", uploads.has_progressed)
    begin_upload = write("begin", uploads.begin)
    disown_upload = write("disown", uploads.disown)
    add_receipt = write("receipt", uploads.add_receipt)
    drop_receipts = write("drop", uploads.drop_receipts)
    note_completing = write("note", uploads.note_completing)
    note_proof = write("proof", uploads.note_proof)
    abandon_upload = write("abandon", uploads.abandon)
    forget_upload = write("forget", uploads.forget)
    abandoned_uploads = read(uploads.abandoned_of)
    published_parts = read(uploads.published_parts)
    owns_upload = read(uploads.is_owned)

    def all_abandoned_uploads(self) -> AsyncIterator[Upload]:
        """Every upload that waits to be aborted."""
        return self._paged(uploads.abandoned, lambda upload: upload.row, 0)

    # -- settlements --------------------------------------------------------------------------------------------------

    fail = write("fail", settlements.fail)
    renew_revision = write("revise", settlements.renew_revision)
    hold_revision = write("hold_revision", settlements.hold_revision)

    async def complete(self, claim: Claim, mirrored: Mirrored, new_bytes: int = 0) -> bool:
        """Settle a proven transfer; False if a newer revision is listed meanwhile and queued."""
        completion = settlements.Completion(claim, mirrored, new_bytes)
        return await self._store.write_shared("complete", settlements.complete, completion)

    # -- listings, and files that are held ----------------------------------------------------------------------------

    known_files = read(listings.known_files)
    record = write("record", listings.record)
    mark_gone = write("gone", listings.mark_gone)
    note_listed = write("listed", days.note_listed)
    held_of = read(listings.held_of)
    hold = write("hold", listings.hold)
    release_held = write("unhold", listings.release_held)
    held = read(listings.held)

    def known_between(self, after: str, last: str) -> AsyncIterator[KnownFile]:
        """Rows with ``after < key <= last`` in key order."""
        return self._paged(partial(listings.known_between, last=last), lambda known: known.key, after)

    def unfinished_between(self, after: str, last: str) -> AsyncIterator[str]:
        """Keys of unfinished files not in work with ``after < key <= last``, in their order."""
        return self._paged(partial(listings.unfinished_between, last=last), str, after)

    def held_between(self, after: str, last: str) -> AsyncIterator[str]:
        """Keys of held files with ``after < key <= last``, in their order."""
        return self._paged(partial(listings.held_between, last=last), str, after)

    # -- status -------------------------------------------------------------------------------------------------------

    status = read(reports.status)
    throughput = read(reports.throughput)
    last_errors = read(reports.last_errors)
    waiting_since = read(reports.waiting_since)
    datasets = read(reports.datasets)
    edges = read(days.edges)
    years = read(days.years)

    async def calendar(self, dataset: str, year: int) -> YearCalendar:
        """The state of each day of a dataset and year; at most 366 rows are read."""
        known = await self._store.read(lambda tx: days.year_facts(tx, dataset, year))
        return await asyncio.to_thread(known.calendar, self.clock.utc())

    # -- the rows that a command is about -----------------------------------------------------------------------------

    unknown_keys = read(selection.unknown)
    history = read(selection.history)

    async def files(self, chosen: Selection, wanted: Filter | None = None) -> AsyncIterator[FileRow]:
        """Rows of the ledger in key order; no transaction is held between pages."""
        wanted = wanted or Filter()
        for keys in _batches(wanted.keys, PAGE_ROWS):
            by_keys = partial(selection.by_keys, keys=keys, chosen=chosen, wanted=wanted)
            for file in await self._store.read(by_keys):
                yield file
        left = () if wanted.keys else await self._store.read(lambda tx: selection.stretches(tx, chosen))
        while left:
            page = partial(selection.files, left=left, statuses=wanted.statuses, limit=PAGE_ROWS)
            files, left = await self._store.read(page)
            for file in files:
                yield file

    async def requeue(self, chosen: Selection, wanted: Filter, *, disown: bool = False) -> int:
        """Put rows back into the queue, a batch a transaction; ``disown``: the target's object is not recognised as ours."""
        return await self._each_batch("requeue", chosen, wanted, partial(selection.requeue, disown=disown))

    async def unqueue(self, chosen: Selection, wanted: Filter) -> int:
        """Take waiting rows out, a batch a transaction: new ones leave, re-published ones keep what is mirrored."""
        return await self._each_batch("unqueue", chosen, wanted, selection.unqueue)

    async def _each_batch(self, name: str, chosen: Selection, wanted: Filter, act: Act) -> int:
        """Find and change a batch within one transaction, and so on to the end; the number of rows that changed."""
        changed = 0
        for keys in _batches(wanted.keys, BATCH_ROWS):
            changed += await self._store.write(name, partial(_change_keys, keys, chosen, wanted, act))
        left = () if wanted.keys else await self._store.read(lambda tx: selection.stretches(tx, chosen))
        while left:
            here, left = await self._store.write(name, partial(_change_page, left, wanted, act))
            changed += here
        return changed

    async def _paged(
        self, page_of: Callable[..., list[T]], place_of: Callable[[T], int | str], after: int | str
    ) -> AsyncIterator[T]:
        """The rows behind ``after``, a page a transaction."""
        while True:
            page = await self._store.read(partial(page_of, after=after, limit=PAGE_ROWS))
            for row in page:
                yield row
            if len(page) < PAGE_ROWS:
                return
            after = place_of(page[-1])


def _change_keys(keys: Sequence[str], chosen: Selection, wanted: Filter, act: Act, tx: Transaction) -> int:
    return act(tx, [file.file_id for file in selection.by_keys(tx, keys, chosen, wanted)])


def _change_page(
    left: selection.Stretches, wanted: Filter, act: Act, tx: Transaction
) -> tuple[int, selection.Stretches]:
    ids, left = selection.ids(tx, left, wanted.statuses, BATCH_ROWS)
    return (act(tx, ids) if ids else 0), left


def _batches(keys: Collection[str], size: int) -> list[list[str]]:
    """Keys in their order, in lists of at most ``size``."""
    ordered = sorted(keys)
    return [ordered[begin : begin + size] for begin in range(0, len(ordered), size)]
