"""The verbs of the ledger by subject: what the flow may do to the durable state, and all it may do.

Every verb is one transaction, whatever the store; a write is durable when it returns. Each may raise LedgerError.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import date
from functools import partial
from typing import NoReturn, TypeVar

from polyb2.clock import Clock
from polyb2.core.checkup import Check
from polyb2.core.compare import Change
from polyb2.core.coverage import YearCalendar
from polyb2.core.errors import LedgerError, LedgerGoneError
from polyb2.core.parts import PartPlan
from polyb2.core.records import Claim, KnownFile, ListedObject, Mirrored, PartProof, Receipt, Upload, UploadState
from polyb2.core.selection import Selection
from polyb2.core.status import Event
from polyb2.core.verdict import Verdict
from polyb2.ledger.busy_retry import Rule
from polyb2.ledger.rows import (
    IDLE,
    Binding,
    Discovered,
    FileRow,
    Filter,
    History,
    ListedDays,
    Load,
    QueueState,
    Worker,
)  # fmt: skip
from polyb2.ledger.status_report import Failure, Held, StatusReport
from polyb2.ledger.store import Store, Transaction
from polyb2.ledger.verbs import claims, days, facts, held, leases, listings, selection, settlements, status, uploads
from polyb2.ledger.verbs.settlements import Completion

PAGE_ROWS = 500
BATCH_ROWS = 1000
"""Rows that one transaction puts back or takes out: some ten milliseconds, so that a run beside it is not held up."""
T = TypeVar("T")
Act = Callable[[Transaction, selection.Queued], int]


class Ledger:
    """An open ledger; :func:`~polyb2.ledger.open.open_ledger` makes one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self.clock = clock

    async def close(self) -> None:
        await self._store.close()

    async def reader(self) -> Ledger:
        """The same ledger through a connection that cannot write, for observers; it is closed before this one.

        A question to it does not wait for a ledger that cannot be read just now.
        """
        store = await self._store.reader()
        store.busy_retry.rule = lambda _error, _waited_s: False
        return Ledger(store, self.clock)

    @property
    def place(self) -> str:
        """Where the ledger is, in words for people."""
        return self._store.place

    @property
    def exists(self) -> bool:
        """False where there is no ledger and none was made: this is an empty one that is gone when it is closed."""
        return self._store.exists

    @property
    def gone(self) -> LedgerGoneError | None:
        """The error that says what became of the ledger, once that was noticed; None while it is there."""
        return self._store.gone

    @property
    def trouble(self) -> LedgerError | None:
        """The error that writes or reads wait for now."""
        return self._store.busy_retry.problem

    def retry_while(self, rule: Rule) -> None:
        """Set how long to try again while the ledger cannot be used."""
        self._store.busy_retry.rule = rule

    async def watch(self) -> NoReturn:
        """Watch the ledger as long as it is there (LedgerGoneError)."""
        await self._store.watch()

    async def examine(self) -> list[Check]:
        """The state of the place, for ``doctor``."""
        return await self._store.examine()

    # -- facts --------------------------------------------------------------------------------------------------------

    async def bind(self, wanted: Binding) -> None:
        """Bind a new ledger to its source and target, or check a bound one (UsageError)."""
        await self._store.write("bind", lambda tx: facts.bind(tx, wanted))

    async def check_binding(self, wanted: Binding) -> None:
        """As :meth:`bind`, for a reader."""
        await self._store.read(lambda tx: facts.check(tx, wanted))

    async def rebind(self, wanted: Binding) -> None:
        """Note that an endpoint has a new name."""
        await self._store.write("rebind", lambda tx: facts.rebind(tx, wanted))

    async def fact(self, name: str) -> str | None:
        return await self._store.read(lambda tx: facts.fact(tx, name))

    async def remember(self, name: str, value: str | None) -> None:
        await self._store.write("remember", lambda tx: facts.remember(tx, name, value))

    async def new_notices(self, names: Sequence[str]) -> set[str]:
        """Those of the names that the owner was not notified of."""
        return await self._store.read(lambda tx: facts.new_notices(tx, names))

    async def note_notices(self, names: Sequence[str]) -> None:
        await self._store.write("notices", lambda tx: facts.note_notices(tx, names))

    async def forget_notices(self, prefix: str) -> None:
        """Let what begins with ``prefix`` be sent again."""
        await self._store.write("forget_notices", lambda tx: facts.forget_notices(tx, prefix))

    async def followed(self) -> Mapping[str, date]:
        """The first date that a watch ever looked at, by dataset."""
        return await self._store.read(facts.followed)

    async def follow(self, datasets: Sequence[str], since: date) -> None:
        """Note that a watch looked at these datasets from ``since`` on."""
        await self._store.write("follow", lambda tx: facts.follow(tx, datasets, since))

    # -- workers and claims -------------------------------------------------------------------------------------------

    async def register(self, worker_id: str, lease_ms: int) -> Worker:
        return await self._store.write("register", lambda tx: leases.register(tx, worker_id, lease_ms))

    async def renew(self, worker: Worker, load: Load = IDLE) -> None:
        """Extend the worker's lease (LeaseLostError if it had run out); ``status`` shows its ``load``."""
        await self._store.write("renew", lambda tx: leases.renew(tx, worker, load))

    async def end_worker(self, worker: Worker, reason: str) -> None:
        """Give the worker's rows back, uncharged, and end its lease."""
        await self._store.write("end", lambda tx: leases.end(tx, worker, reason))

    async def claim(self, worker: Worker) -> Claim | None:
        return await self._store.write("claim", lambda tx: claims.claim(tx, worker))

    async def claim_up_to(self, worker: Worker, count: int) -> list[Claim]:
        """As many claims as there are slots for, made durable together."""
        return await self._store.write("claim", lambda tx: claims.claim_up_to(tx, worker, count))

    async def queue_state(self, worker: Worker) -> QueueState:
        return await self._store.read(lambda tx: claims.queue_state(tx, worker))

    # -- uploads ------------------------------------------------------------------------------------------------------

    async def has_progressed(self, claim: Claim) -> bool:
        """True if the attempt left more receipts than any before it (LeaseLostError if the claim no longer holds)."""
        return await self._store.read(lambda tx: uploads.has_progressed(tx, claim))

    async def begin_upload(
        self, claim: Claim, dest_key: str, upload_id: str, plan: PartPlan, proof: PartProof
    ) -> Upload:
        return await self._store.write("begin", lambda tx: uploads.begin(tx, claim, dest_key, upload_id, plan, proof))

    async def disown_upload(
        self, claim: Claim, dest_key: str, upload_id: str, plan: PartPlan, proof: PartProof
    ) -> None:
        """Record an upload that was created when the claim was already lost; the sweep aborts it."""
        await self._store.write("disown", lambda tx: uploads.disown(tx, claim, dest_key, upload_id, plan, proof))

    async def add_receipt(self, claim: Claim, upload: Upload, receipt: Receipt) -> None:
        await self._store.write("receipt", lambda tx: uploads.add_receipt(tx, claim, upload, receipt))

    async def drop_receipts(self, claim: Claim, upload: Upload, numbers: Collection[int]) -> None:
        await self._store.write("drop", lambda tx: uploads.drop_receipts(tx, claim, upload, numbers))

    async def note_state(self, claim: Claim, upload: Upload, state: UploadState) -> None:
        await self._store.write("note", lambda tx: uploads.note_state(tx, claim, upload, state))

    async def note_proof(self, claim: Claim, upload: Upload, proof: PartProof) -> None:
        await self._store.write("proof", lambda tx: uploads.note_proof(tx, claim, upload, proof))

    async def abandon_upload(self, claim: Claim) -> None:
        await self._store.write("abandon", lambda tx: uploads.abandon(tx, claim))

    async def forget_upload(self, upload: Upload) -> None:
        await self._store.write("forget", lambda tx: uploads.forget(tx, upload))

    async def abandoned_uploads(self, file_id: int) -> list[Upload]:
        return await self._store.read(lambda tx: uploads.abandoned_of(tx, file_id))

    def all_abandoned_uploads(self) -> AsyncIterator[Upload]:
        """Every upload that waits to be aborted, page by page."""
        return self._paged(uploads.abandoned, lambda upload: upload.row, 0)

    async def published_parts(self, file_id: int) -> list[Receipt]:
        """The receipts of what the target holds of a file; none where it went in one PUT or was adopted."""
        return await self._store.read(lambda tx: uploads.published_parts(tx, file_id))

    async def owns_upload(self, upload_id: str) -> bool:
        return await self._store.read(lambda tx: uploads.is_owned(tx, upload_id))

    # -- settlements --------------------------------------------------------------------------------------------------

    async def complete(self, claim: Claim, mirrored: Mirrored, new_bytes: int = 0) -> bool:
        """Settle a proven transfer; False if a newer revision is listed meanwhile and queued."""
        completion = Completion(claim, mirrored, new_bytes)
        return await self._store.write_shared("complete", settlements.complete, completion)

    async def fail(self, claim: Claim, verdict: Verdict, message: str, delay_s: float) -> Event:
        """Settle a failed attempt; ``delay_s`` is the back-off where the verdict waits."""
        return await self._store.write("fail", lambda tx: settlements.fail(tx, claim, verdict, message, delay_s))

    async def renew_revision(self, claim: Claim, listed: ListedObject) -> None:
        await self._store.write("revise", lambda tx: settlements.renew_revision(tx, claim, listed))

    async def hold_revision(self, claim: Claim, listed: ListedObject, reason: str, message: str) -> Event:
        """Park a claimed file whose newer revision may not be queued; ``revise`` if discovery queued one meanwhile."""
        return await self._store.write("hold", lambda tx: settlements.hold_revision(tx, claim, listed, reason, message))

    # -- listings -----------------------------------------------------------------------------------------------------

    async def known_files(self, keys: Sequence[str]) -> dict[str, KnownFile]:
        return await self._store.read(lambda tx: listings.known_files(tx, keys))

    def known_between(self, after: str, last: str) -> AsyncIterator[KnownFile]:
        """Rows with ``after < key <= last`` in key order."""
        return self._paged(partial(listings.known_between, last=last), lambda known: known.key, after)

    def unfinished_between(self, after: str, last: str) -> AsyncIterator[str]:
        """Keys of unfinished files not in work with ``after < key <= last``, in their order."""
        return self._paged(partial(listings.unfinished_between, last=last), str, after)

    async def record(self, found: Sequence[Discovered], dest_prefix: str) -> Counter[Change]:
        """Bring a listing page into the queue."""
        return await self._store.write("record", lambda tx: listings.record(tx, found, dest_prefix))

    async def mark_gone(self, keys: Sequence[str]) -> int:
        return await self._store.write("gone", lambda tx: listings.mark_gone(tx, keys))

    async def note_listed(self, found: ListedDays) -> None:
        """Note what a listing that went to its end showed."""
        await self._store.write("listed", lambda tx: days.note_listed(tx, found))

    # -- files that are held ------------------------------------------------------------------------------------------

    async def held_of(self, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
        """ETag and size of what is held of these keys."""
        return await self._store.read(lambda tx: held.held_of(tx, keys))

    def held_between(self, after: str, last: str) -> AsyncIterator[str]:
        """Keys of held files with ``after < key <= last``, in their order."""
        return self._paged(partial(held.held_between, last=last), str, after)

    async def hold(self, found: Sequence[Discovered]) -> None:
        """Keep files that were found and are not queued unasked."""
        await self._store.write("hold", lambda tx: held.hold(tx, found))

    async def release_held(self, keys: Sequence[str]) -> None:
        """Forget held files that the source lists otherwise now."""
        await self._store.write("unhold", lambda tx: held.release(tx, keys))

    async def held(self) -> Held:
        """Everything that is held, summed up."""
        return await self._store.read(held.summary)

    # -- status -------------------------------------------------------------------------------------------------------

    async def status(self) -> StatusReport:
        return await self._store.read(status.status)

    async def throughput(self) -> list[tuple[int, int]]:
        """The bytes that became durable in each second (epoch) of the last hour of work."""
        return await self._store.read(status.throughput)

    async def last_errors(self, limit: int) -> list[Failure]:
        """The newest failures that still stand; a status report has some of them."""
        return await self._store.read(lambda tx: status.last_errors(tx, limit))

    async def waiting_since(self) -> dict[str, int]:
        """When the oldest waiting file of each dataset began to wait, epoch milliseconds."""
        return await self._store.read(status.waiting_since)

    async def datasets(self) -> list[str]:
        return await self._store.read(status.datasets)

    async def edges(self) -> dict[str, tuple[date, date]]:
        """The dates of the first and the last row of each dataset."""
        return await self._store.read(days.edges)

    async def years(self) -> dict[str, range]:
        """The years of each dataset of which the ledger knows anything, from files and listings."""
        return await self._store.read(days.years)

    async def calendar(self, dataset: str, year: int) -> YearCalendar:
        """The state of each day of a dataset and year; at most 366 rows are read."""
        known = await self._store.read(lambda tx: days.year_facts(tx, dataset, year))
        return await asyncio.to_thread(known.calendar, self.clock.utc())

    # -- the rows that a command is about -----------------------------------------------------------------------------

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

    async def unknown_keys(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that the ledger does not have."""
        return await self._store.read(lambda tx: selection.unknown(tx, keys))

    async def history(self, key: str) -> History | None:
        """A file's row, revisions and last attempts; None for a key that the ledger does not have."""
        return await self._store.read(lambda tx: selection.history(tx, key))

    async def requeue(self, files: Sequence[FileRow], *, disown: bool = False) -> int:
        """Put files back into the queue, uncharged; ``disown`` also makes what the target has unrecognisable as ours."""
        rows = _queued(files)
        return await self._store.write("requeue", lambda tx: selection.requeue(tx, rows, disown=disown))

    async def unqueue(self, files: Sequence[FileRow]) -> int:
        """Take waiting files out of the queue: new ones leave the ledger, re-published ones keep what is mirrored."""
        rows = _queued(files)
        return await self._store.write("unqueue", lambda tx: selection.unqueue(tx, rows))

    async def requeue_all(self, chosen: Selection, wanted: Filter) -> int:
        """As :meth:`requeue`, for all rows that a command is about, a batch a transaction."""
        return await self._each_batch("requeue", chosen, wanted, selection.requeue)

    async def unqueue_all(self, chosen: Selection, wanted: Filter) -> int:
        """As :meth:`unqueue`, for all rows that a command is about, a batch a transaction."""
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
        while page := await self._store.read(partial(page_of, after=after, limit=PAGE_ROWS)):
            for row in page:
                yield row
            after = place_of(page[-1])


def _change_keys(keys: Sequence[str], chosen: Selection, wanted: Filter, act: Act, tx: Transaction) -> int:
    return act(tx, _queued(selection.by_keys(tx, keys, chosen, wanted)))


def _change_page(
    left: selection.Stretches, wanted: Filter, act: Act, tx: Transaction
) -> tuple[int, selection.Stretches]:
    rows, left = selection.queued(tx, left, wanted.statuses, BATCH_ROWS)
    return (act(tx, rows) if rows else 0), left


def _queued(files: Sequence[FileRow]) -> selection.Queued:
    return [(file.file_id, file.status) for file in files]


def _batches(keys: Collection[str], size: int) -> list[list[str]]:
    """Keys in their order, in lists of at most ``size``."""
    ordered = sorted(keys)
    return [ordered[begin : begin + size] for begin in range(0, len(ordered), size)]
