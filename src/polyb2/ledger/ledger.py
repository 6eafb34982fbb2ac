"""The verbs of the ledger, one method each: what the flow may do to the durable state, and all it may do.

Every method is one transaction. A PostgreSQL adapter would implement these and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from polyb2.clock import Clock
from polyb2.core.compare import Change
from polyb2.core.coverage import YearCalendar
from polyb2.core.errors import LedgerGoneError
from polyb2.core.parts import PartPlan
from polyb2.core.records import Claim, KnownFile, ListedObject, Mirrored, PartProof, Receipt, Upload, UploadState
from polyb2.core.selection import Selection
from polyb2.core.status import Event, Status
from polyb2.core.verdict import Verdict
from polyb2.ledger import (
    binding,
    byhand,
    claims,
    coverage,
    finding,
    holding,
    leases,
    listings,
    reports,
    settlements,
    story,
    told,
    transfers,
)
from polyb2.ledger.binding import Binding
from polyb2.ledger.claims import QueueState
from polyb2.ledger.coverage import ListedDays
from polyb2.ledger.database import Database, Row, Transaction, open_database
from polyb2.ledger.holding import Held
from polyb2.ledger.leases import IDLE, Load, Worker
from polyb2.ledger.listings import Discovered
from polyb2.ledger.patience import Patience
from polyb2.ledger.reports import Filter, StatusReport
from polyb2.ledger.settlements import Completion
from polyb2.ledger.story import Story

PAGE_ROWS = 500
BATCH_ROWS = 1000
"""Rows that one transaction puts back or takes out: some ten milliseconds, so that a run beside it is not held up."""


class Ledger:
    """An open ledger; :meth:`open` makes one."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self.clock = clock

    @classmethod
    async def open(cls, path: Path, clock: Clock | None = None, *, read_only: bool = False) -> Ledger:
        """Open the ledger at ``path``; see :func:`~polyb2.ledger.database.open_database` for what it raises."""
        return cls(await open_database(path, read_only=read_only), clock or Clock())

    async def close(self) -> None:
        await self._database.close()

    async def reader(self) -> Ledger:
        """The same ledger through a connection that cannot write, for those who only look; it is closed before this one.

        Nothing it is asked waits for a ledger that cannot be read just now.
        """
        database = await self._database.reader()
        database.patience.rule = lambda _error, _waited_s: False
        return Ledger(database, self.clock)

    @property
    def gone(self) -> LedgerGoneError | None:
        """What became of the ledger's files, once that was noticed; None while they are those that were opened."""
        return self._database.gone

    async def watch(self) -> NoReturn:
        """Watch the ledger's files as long as they are there (LedgerGoneError)."""
        await self._database.watch()

    @property
    def patience(self) -> Patience:
        """What to do while the ledger cannot be used."""
        return self._database.patience

    # -- what it belongs to -------------------------------------------------------------------------------------------

    async def bind(self, wanted: Binding) -> None:
        """Bind a new ledger to its source and target, or check a bound one (UsageError)."""
        await self._database.write("bind", lambda tx: binding.bind(tx, wanted))

    async def check_binding(self, wanted: Binding) -> None:
        """As :meth:`bind`, for one who only reads."""
        await self._database.read(lambda tx: binding.check(tx, wanted))

    async def rebind(self, wanted: Binding) -> None:
        """Note that an endpoint has a new name."""
        await self._database.write("rebind", lambda tx: binding.rebind(tx, wanted))

    async def fact(self, name: str) -> str | None:
        return await self._database.read(lambda tx: binding.get_meta(tx, name))

    async def remember(self, name: str, value: str | None) -> None:
        await self._database.write("remember", lambda tx: binding.set_meta(tx, name, value))

    async def untold(self, names: Sequence[str]) -> set[str]:
        """Those of the names that the owner was not notified of."""
        return await self._database.read(lambda tx: told.fresh(tx, names))

    async def note_told(self, names: Sequence[str]) -> None:
        await self._database.write("told", lambda tx: told.note(tx, names, self.clock.wall_ms()))

    async def forget_told(self, prefix: str) -> None:
        """Let what begins with ``prefix`` be told again."""
        await self._database.write("forget", lambda tx: told.forget(tx, prefix))

    # -- workers and claims -------------------------------------------------------------------------------------------

    async def register(self, worker_id: str, lease_ms: int) -> Worker:
        now = self.clock.now()
        return await self._database.write("register", lambda tx: leases.register(tx, worker_id, lease_ms, now))

    async def renew(self, worker: Worker, load: Load = IDLE) -> None:
        """Extend the worker's lease (LeaseLostError if it had run out); ``status`` shows its ``load``."""
        await self._database.write("renew", lambda tx: leases.renew(tx, worker, load, self.clock.now()))

    async def end_worker(self, worker: Worker, reason: str) -> None:
        """Give the worker's rows back, uncharged, and end its lease."""
        await self._database.write("end", lambda tx: leases.end(tx, worker, reason, self.clock.now()))

    async def claim(self, worker: Worker) -> Claim | None:
        return await self._database.write("claim", lambda tx: claims.claim(tx, worker, self.clock.now()))

    async def claim_up_to(self, worker: Worker, count: int) -> list[Claim]:
        """As many claims as there are slots for, made durable together."""
        return await self._database.write("claim", lambda tx: claims.claim_up_to(tx, worker, count, self.clock.now()))

    async def queue_state(self, worker: Worker) -> QueueState:
        return await self._database.read(lambda tx: claims.queue_state(tx, worker))

    # -- transfers ----------------------------------------------------------------------------------------------------

    async def has_progressed(self, claim: Claim) -> bool:
        """Whether the attempt left more receipts than any before it (LeaseLostError if the claim no longer holds)."""
        return await self._database.read(lambda tx: transfers.has_progressed(tx, claim, self.clock.now()))

    async def begin_upload(
        self, claim: Claim, dest_key: str, upload_id: str, plan: PartPlan, proof: PartProof
    ) -> Upload:
        return await self._database.write(
            "begin", lambda tx: transfers.begin(tx, claim, dest_key, upload_id, plan, proof, self.clock.now())
        )

    async def disown_upload(
        self, claim: Claim, dest_key: str, upload_id: str, plan: PartPlan, proof: PartProof
    ) -> None:
        """Record an upload that was created when the claim was already lost; the sweep aborts it."""
        await self._database.write(
            "disown", lambda tx: transfers.disown(tx, claim, dest_key, upload_id, plan, proof, self.clock.now())
        )

    async def add_receipt(self, claim: Claim, upload: Upload, receipt: Receipt) -> None:
        await self._database.write(
            "receipt", lambda tx: transfers.add_receipt(tx, claim, upload, receipt, self.clock.now())
        )

    async def drop_receipts(self, claim: Claim, upload: Upload, numbers: Collection[int]) -> None:
        await self._database.write(
            "drop", lambda tx: transfers.drop_receipts(tx, claim, upload, numbers, self.clock.now())
        )

    async def note_state(self, claim: Claim, upload: Upload, state: UploadState) -> None:
        await self._database.write("note", lambda tx: transfers.note_state(tx, claim, upload, state, self.clock.now()))

    async def note_proof(self, claim: Claim, upload: Upload, proof: PartProof) -> None:
        await self._database.write("proof", lambda tx: transfers.note_proof(tx, claim, upload, proof, self.clock.now()))

    async def abandon_upload(self, claim: Claim) -> None:
        await self._database.write("abandon", lambda tx: transfers.abandon(tx, claim, self.clock.now()))

    async def forget_upload(self, upload: Upload) -> None:
        await self._database.write("forget", lambda tx: transfers.forget(tx, upload))

    async def abandoned_uploads(self, file_id: int) -> list[Upload]:
        return await self._database.read(lambda tx: transfers.abandoned_of(tx, file_id))

    async def all_abandoned_uploads(self) -> AsyncIterator[Upload]:
        """Every upload that waits to be aborted, page by page."""
        after = 0
        while page := await self._database.read(partial(transfers.abandoned, after=after, limit=PAGE_ROWS)):
            for upload in page:
                yield upload
            after = page[-1].row

    async def published_parts(self, file_id: int) -> list[Receipt]:
        """The receipts of what the target holds of a file; none where it went in one PUT or was adopted."""
        return await self._database.read(lambda tx: transfers.published_parts(tx, file_id))

    async def owns_upload(self, upload_id: str) -> bool:
        return await self._database.read(lambda tx: transfers.is_owned(tx, upload_id))

    # -- settlements --------------------------------------------------------------------------------------------------

    async def complete(self, claim: Claim, mirrored: Mirrored, new_bytes: int = 0) -> bool:
        """Settle a proven transfer; False if a newer revision is listed meanwhile and queued."""
        return await self._database.write_shared("complete", self._complete, Completion(claim, mirrored, new_bytes))

    def _complete(self, tx: Transaction, completions: Sequence[Completion]) -> list[bool]:
        return settlements.complete(tx, completions, self.clock.now())

    async def fail(self, claim: Claim, verdict: Verdict, message: str, delay_s: float) -> Event:
        """Settle a failed attempt; ``delay_s`` is the back-off where the verdict waits."""
        return await self._database.write("fail", lambda tx: self._fail(tx, claim, verdict, message, delay_s))

    def _fail(self, tx: Transaction, claim: Claim, verdict: Verdict, message: str, delay_s: float) -> Event:
        now = self.clock.now()
        return settlements.fail(tx, claim, verdict, message, now.wall_ms + int(delay_s * 1000), now)

    async def renew_revision(self, claim: Claim, listed: ListedObject) -> None:
        await self._database.write("revise", lambda tx: settlements.renew_revision(tx, claim, listed, self.clock.now()))

    async def hold_revision(self, claim: Claim, listed: ListedObject, reason: str, message: str) -> Event:
        """Park a claimed file whose newer revision may not be queued; ``revise`` if discovery queued one meanwhile."""
        return await self._database.write(
            "hold", lambda tx: settlements.hold_revision(tx, claim, listed, reason, message, self.clock.now())
        )

    # -- discovery ----------------------------------------------------------------------------------------------------

    async def known_files(self, keys: Sequence[str]) -> dict[str, KnownFile]:
        return await self._database.read(lambda tx: listings.known_files(tx, keys))

    async def known_between(self, after: str, last: str) -> AsyncIterator[KnownFile]:
        """Rows with ``after < key <= last`` in key order."""
        while page := await self._database.read(
            partial(listings.known_between, after=after, last=last, limit=PAGE_ROWS)
        ):
            for known in page:
                yield known
            after = page[-1].key

    async def unfinished_between(self, after: str, last: str) -> AsyncIterator[str]:
        """Keys of unfinished files that nobody works on with ``after < key <= last``, in their order."""
        while page := await self._database.read(
            partial(listings.unfinished_between, after=after, last=last, limit=PAGE_ROWS)
        ):
            for key in page:
                yield key
            after = page[-1]

    async def record(self, found: Sequence[Discovered], dest_prefix: str) -> Counter[Change]:
        """Bring a listing page into the queue."""
        return await self._database.write(
            "record", lambda tx: listings.record(tx, found, dest_prefix, self.clock.wall_ms())
        )

    async def mark_gone(self, keys: Sequence[str]) -> int:
        return await self._database.write("gone", lambda tx: listings.mark_gone(tx, keys))

    async def held_of(self, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
        """ETag and size of what is held of these keys."""
        return await self._database.read(lambda tx: holding.held_of(tx, keys))

    async def held_between(self, after: str, last: str) -> AsyncIterator[str]:
        """Keys of held files with ``after < key <= last``, in their order."""
        while page := await self._database.read(partial(holding.held_between, after=after, last=last, limit=PAGE_ROWS)):
            for key in page:
                yield key
            after = page[-1]

    async def hold(self, found: Sequence[Discovered]) -> None:
        """Keep files that were found and are not queued unasked."""
        await self._database.write("hold", lambda tx: holding.hold(tx, found, self.clock.wall_ms()))

    async def release_held(self, keys: Sequence[str]) -> None:
        """Forget held files that the source lists otherwise now."""
        await self._database.write("unhold", lambda tx: holding.release(tx, keys))

    async def held(self) -> Held:
        """What is held in all."""
        return await self._database.read(holding.summary)

    async def followed(self) -> Mapping[str, date]:
        """The first date that a watch ever looked at, by dataset."""
        return await self._database.read(holding.followed)

    async def follow(self, datasets: Sequence[str], since: date) -> None:
        """Note that a watch looked at these datasets from ``since`` on."""
        await self._database.write("follow", lambda tx: holding.follow(tx, datasets, since))

    async def note_listed(self, found: ListedDays) -> None:
        """Note what a listing that went to its end showed."""
        await self._database.write("listed", lambda tx: coverage.note_listed(tx, found))

    # -- people -------------------------------------------------------------------------------------------------------

    async def status(self) -> StatusReport:
        return await self._database.read(lambda tx: reports.status(tx, self.clock.now()))

    async def throughput(self) -> list[tuple[int, int]]:
        """The bytes that became durable in each second (epoch) of the last hour of work."""
        rows = await self._database.read(lambda tx: tx.rows("throughput_history"))
        return [(row["second"], row["bytes"]) for row in rows]

    async def last_errors(self, limit: int) -> list[dict[str, Any]]:
        """The newest failures that still stand, as ``status --json`` shows some of them."""
        return await self._database.read(lambda tx: reports.last_errors(tx, limit))

    async def waiting_since(self) -> dict[str, int]:
        """Since when the oldest waiting file of each dataset waits, epoch milliseconds; of a ledger that is up to date."""
        return await self._database.read(reports.waiting_since)

    async def datasets(self) -> list[str]:
        return await self._database.read(reports.datasets)

    async def edges(self) -> dict[str, tuple[date, date]]:
        """The dates of the first and the last row of each dataset."""
        return await self._database.read(coverage.edges)

    async def years(self) -> dict[str, range]:
        """The years of each dataset of which the ledger knows anything, from files and listings."""
        return await self._database.read(coverage.years)

    async def calendar(self, dataset: str, year: int) -> YearCalendar:
        """What became of each day of a dataset and year; at most 366 rows are read."""
        facts = await self._database.read(lambda tx: coverage.facts(tx, dataset, year))
        return await asyncio.to_thread(facts.calendar, self.clock.utc())

    async def files(self, selection: Selection, wanted: Filter | None = None) -> AsyncIterator[Row]:
        """Rows of the ledger in key order; no transaction is held between pages."""
        wanted = wanted or Filter()
        if wanted.keys:
            for keys in _batches(wanted.keys, PAGE_ROWS):
                for row in await self._database.read(
                    partial(finding.by_keys, keys=keys, selection=selection, wanted=wanted)
                ):
                    yield row
            return
        left = await self._database.read(lambda tx: finding.stretches(tx, selection))
        while left:
            look = partial(finding.page, left=left, statuses=wanted.statuses, limit=PAGE_ROWS)
            rows, left = await self._database.read(look)
            for row in rows:
                yield row

    async def unknown_keys(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that the ledger does not have."""
        return await self._database.read(lambda tx: finding.unknown(tx, keys))

    async def story(self, key: str) -> Story | None:
        """A file's row, revisions and last attempts; None for a key that the ledger does not have."""
        return await self._database.read(lambda tx: story.story(tx, key))

    async def requeue(self, rows: Sequence[Row], *, disown: bool = False) -> int:
        """Put rows back into the queue, uncharged; ``disown`` also makes what the target has unrecognisable as ours."""
        now_ms = self.clock.wall_ms()
        return await self._database.write("requeue", lambda tx: byhand.requeue(tx, rows, now_ms, disown=disown))

    async def unqueue(self, rows: Sequence[Row]) -> int:
        """Take waiting rows out of the queue: new files leave the ledger, re-published ones keep what is mirrored."""
        return await self._database.write("unqueue", lambda tx: byhand.unqueue(tx, reports.ids(rows)))

    async def requeue_all(self, selection: Selection, wanted: Filter) -> int:
        """As :meth:`requeue`, for all rows that a command is about, a batch a transaction."""
        return await self._each_batch("requeue", selection, wanted, self._requeue)

    async def unqueue_all(self, selection: Selection, wanted: Filter) -> int:
        """As :meth:`unqueue`, for all rows that a command is about, a batch a transaction."""
        return await self._each_batch(
            "unqueue", selection, wanted, lambda tx, rows: byhand.unqueue(tx, reports.ids(rows))
        )

    def _requeue(self, tx: Transaction, rows: Sequence[Row]) -> int:
        return byhand.requeue(tx, rows, self.clock.wall_ms())

    async def _each_batch(
        self, name: str, selection: Selection, wanted: Filter, act: Callable[[Transaction, Sequence[Row]], int]
    ) -> int:
        """Find and change a batch within one transaction, and so on to the end; how many rows were changed."""
        changed = 0
        if wanted.keys:
            for keys in _batches(wanted.keys, BATCH_ROWS):
                find = partial(finding.by_keys, keys=keys, selection=selection, wanted=wanted)
                changed += await self._database.write(name, partial(_found_and_changed, find=find, act=act))
            return changed
        left = await self._database.read(lambda tx: finding.stretches(tx, selection))
        while left:
            step = partial(_step, left=left, statuses=wanted.statuses, act=act)
            here, left = await self._database.write(name, step)
            changed += here
        return changed


def _step(
    tx: Transaction,
    left: finding.Stretches,
    statuses: Collection[Status],
    act: Callable[[Transaction, Sequence[Row]], int],
) -> tuple[int, finding.Stretches]:
    rows, left = finding.page(tx, left, statuses, BATCH_ROWS, ids_only=True)
    return (act(tx, rows) if rows else 0), left


def _found_and_changed(
    tx: Transaction,
    find: Callable[[Transaction], list[Row]],
    act: Callable[[Transaction, Sequence[Row]], int],
) -> int:
    return act(tx, find(tx))


def _batches(keys: Collection[str], size: int) -> list[list[str]]:
    """Keys in their order, in lists of at most ``size``."""
    ordered = sorted(keys)
    return [ordered[begin : begin + size] for begin in range(0, len(ordered), size)]
