"""The verbs of the ledger, one method each: what the flow may do to the durable state, and all it may do.

Every method is one transaction. A PostgreSQL adapter would implement these and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
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
from polyb2.core.status import Event
from polyb2.core.verdict import Verdict
from polyb2.ledger import binding, claims, coverage, leases, listings, reports, settlements, story, told, transfers
from polyb2.ledger.binding import Binding
from polyb2.ledger.claims import QueueState
from polyb2.ledger.coverage import ListedDays
from polyb2.ledger.database import Database, Row, Transaction, open_database
from polyb2.ledger.leases import IDLE, Load, Worker
from polyb2.ledger.listings import Discovered
from polyb2.ledger.patience import Patience
from polyb2.ledger.reports import Filter, StatusReport
from polyb2.ledger.settlements import Completion
from polyb2.ledger.story import Story

PAGE_ROWS = 500


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
        wanted, after = wanted or Filter(), ""
        while page := await self._database.read(partial(reports.files_page, after=after, limit=PAGE_ROWS)):
            for row in page:
                if reports.takes(row, selection, wanted):
                    yield row
            after = page[-1]["key"]

    async def story(self, key: str) -> Story | None:
        """A file's row, revisions and last attempts; None for a key that the ledger does not have."""
        return await self._database.read(lambda tx: story.story(tx, key))

    async def requeue(self, rows: Sequence[Row], *, disown: bool = False) -> int:
        """Put rows back into the queue, uncharged; ``disown`` also makes what the target has unrecognisable as ours."""
        return await self._database.write("requeue", lambda tx: _requeue(tx, rows, self.clock.wall_ms(), disown=disown))

    async def unqueue(self, rows: Sequence[Row]) -> int:
        """Take waiting rows out of the queue: new files leave the ledger, re-published ones keep what is mirrored."""
        return await self._database.write("unqueue", lambda tx: sum(_unqueue(tx, id_) for id_ in reports.ids(rows)))


def _requeue(tx: Transaction, rows: Sequence[Row], now_ms: int, *, disown: bool) -> int:
    changed = 0
    for row in rows:
        # A row that moved on since it was looked at is left alone.
        moved = tx.run("file_requeue", file_id=row["id"], status=row["status"], now_ms=now_ms)
        if moved and disown:
            tx.run("attempts_disown", file_id=row["id"])
        changed += moved
    return changed


def _unqueue(tx: Transaction, file_id: int) -> int:
    if tx.row("file_waits", file_id=file_id) is None:
        return 0
    tx.run("uploads_abandon", file_id=file_id, revision=0)
    if tx.run("file_restore", file_id=file_id):
        tx.run("revisions_after", file_id=file_id)
        return 1
    return tx.run("file_delete", file_id=file_id)
