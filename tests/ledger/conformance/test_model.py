"""Any order of verbs against a model of a dozen lines: counts, claims, transitions, charges."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from polyb2.core.errors import Kind, LeaseLostError, Side
from polyb2.core.records import Claim
from polyb2.core.status import FAILED, PARKED, WAITING, Status, allowed_pairs
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Load, Worker
from tests.conftest import QUOTES, key
from tests.ledger.conftest import LEASE_MS, SENT, Books, SetClock, listed
from tests.ledger.places import PLACES

DAYS = ["2024-01-02", "2024-01-03", "2024-01-04"]
MAX_RETRIES = 2
RECOUNT = """SELECT dataset, status, count(*) AS files, sum(size) AS bytes, sum(bytes_done) AS bytes_done FROM files
             GROUP BY dataset, status ORDER BY dataset, status"""
KEPT = "SELECT dataset, status, files, bytes, bytes_done FROM counts WHERE files <> 0 ORDER BY dataset, status"
STRAY = """SELECT dataset, status FROM counts WHERE files < 0 OR files = 0 AND (bytes <> 0 OR bytes_done <> 0)"""
T = TypeVar("T")
days = st.sampled_from(DAYS)
picks = st.integers(0, 2)
kinds = st.sampled_from([Kind.STALLED, Kind.STALLED, Kind.STALLED, Kind.UNSUPPORTED, Kind.CAP_EXCEEDED])
MOVES = allowed_pairs()
# A row may go through pending within one verb, never through another status.
VIA_PENDING = {(old, new) for old, middle in MOVES for start, new in MOVES if middle is start is Status.PENDING}


@dataclass
class Held:
    """A claim as its holder believes it."""

    claim: Claim
    worker: int
    until_mono_ms: int


class LedgerMachine(RuleBasedStateMachine):
    """Three files, two workers, one clock."""

    store = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SetClock()
        self.held: dict[str, Held] = {}
        self.etags: dict[str, int] = {}
        self.charges: dict[str, int] = {}
        self.before: dict[str, str] = {}
        self.workers: list[Worker] = []
        self.leases: list[int] = []

    def do(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    @initialize()
    def open(self) -> None:
        self.place = PLACES[self.store](Path(self.folder.name))
        self.books = Books(self.do(open_ledger(self.place.url, self.clock)), self.clock, self.place)
        for name in ("one", "two"):
            self.workers.append(self.do(self.books.worker(name)))
            self.leases.append(self.clock.now().mono_ms + LEASE_MS)
        for day in DAYS:
            self.discover(day, newer=False)

    def teardown(self) -> None:
        with closing(self.runner):
            self.place.close()
            self.do(self.books.ledger.close())
        self.folder.cleanup()

    def rows(self, statement: str = "SELECT * FROM files") -> list[dict[str, Any]]:
        return self.place.sql(statement)

    def row(self, day: str) -> dict[str, Any] | None:
        return next((row for row in self.rows() if row["date"] == day), None)

    def is_live(self, held: Held) -> bool:
        return self.clock.now().mono_ms <= self.leases[held.worker] and self.held.get(held.claim.key) is held

    def settles(self, held: Held, work: Awaitable[object]) -> bool:
        """Do what the holder of a claim does; it must work if the claim lives, and raise if not."""
        lives = self.is_live(held)
        try:
            self.do(work)
        except LeaseLostError:
            assert not lives
            return False
        assert lives
        return True

    def some_claim(self, pick: int) -> Held:
        return self.held[sorted(self.held)[pick % len(self.held)]]

    def key(self, day: str) -> str:
        return key(day, QUOTES) if day == DAYS[0] else key(day)

    # -- the verbs ------------------------------------------------------------------------------------------------------

    @rule(day=days, newer=st.booleans())
    def discover(self, day: str, newer: bool) -> None:
        if newer and (row := self.row(day)) is not None:
            self.etags[day] = self.etags.get(day, 0) + 1
            if row["status"] != Status.PROCESSING:
                self.charges[self.key(day)] = 0
        name = self.key(day)
        number, dataset = self.etags.get(day, 0), name.rsplit("/", 3)[0]
        self.do(self.books.discover(listed(day, f"e{number}", size=30 - number % 3, dataset=dataset)))

    @rule(number=st.integers(0, 1))
    def claim(self, number: int) -> None:
        if self.clock.now().mono_ms > self.leases[number]:
            self.workers[number] = self.do(self.books.worker())
            self.leases[number] = self.clock.now().mono_ms + LEASE_MS
            self.held = {name: held for name, held in self.held.items() if held.worker != number}
        claim = self.do(self.books.next_claim(self.workers[number]))
        if claim is None:
            assert not [row for row in self.rows() if row["status"] == Status.PENDING]
            return
        before = self.held.get(claim.key)
        assert before is None or not self.is_live(before), "two live claims of one row"
        self.held[claim.key] = Held(claim, number, self.leases[number])

    @rule(number=st.integers(0, 1))
    def renew(self, number: int) -> None:
        lives = self.clock.now().mono_ms <= self.leases[number]
        try:
            self.do(self.books.ledger.renew(self.workers[number], Load()))
        except LeaseLostError:
            assert not lives
        else:
            assert lives
            self.leases[number] = self.clock.now().mono_ms + LEASE_MS

    @rule(seconds=st.sampled_from([1, 31, 31, 61]), step=st.sampled_from([0, 0, 0, 7200, -7200]))
    def go_on(self, seconds: int, step: int) -> None:
        self.clock.go_on(seconds)
        self.clock.step(step)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def receipt(self, pick: int) -> None:
        held = self.some_claim(pick)
        if not self.is_live(held):
            return
        live = self.rows(f"SELECT * FROM uploads WHERE file_id = {held.claim.file_id} AND state = 'open'")
        if not live:
            upload = self.do(self.books.begin(held.claim, f"u{len(self.rows('SELECT id FROM uploads'))}"))
        elif held.claim.upload is None:
            return
        else:
            upload = held.claim.upload
        done = {row["number"] for row in self.rows(f"SELECT number FROM parts WHERE upload = {upload.row}")}
        if todo := [number for number in range(1, upload.plan.count + 1) if number not in done]:
            self.do(self.books.receive(held.claim, upload, todo[0]))

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def complete(self, pick: int) -> None:
        held = self.some_claim(pick)
        if self.settles(held, self.books.ledger.complete(held.claim, SENT)):
            self.charges[held.claim.key] = 0
            del self.held[held.claim.key]

    @precondition(lambda self: self.held)
    @rule(pick=picks, kind=kinds, side=st.sampled_from(Side))
    def fail(self, pick: int, kind: Kind, side: Side) -> None:
        claim = (held := self.some_claim(pick)).claim
        progressed = self.is_live(held) and self.do(self.books.ledger.has_progressed(claim))
        if not self.settles(held, self.books.fail(claim, kind, side, max_retries=MAX_RETRIES)):
            return
        del self.held[claim.key]
        (row,) = self.rows(f"SELECT * FROM files WHERE id = {claim.file_id}")
        if row["revision"] != claim.revision.number:
            self.charges[claim.key] = 0
            assert (row["status"], row["retry_count"]) == (Status.PENDING, 0)
        elif kind is Kind.STALLED and not progressed:
            self.charges[claim.key] = self.charges.get(claim.key, 0) + 1
            assert row["retry_count"] == min(self.charges[claim.key], MAX_RETRIES)
            assert (row["status"] == Status.PERMANENT_FAILURE) == (self.charges[claim.key] > MAX_RETRIES)

    @rule(number=st.integers(0, 1))
    def end_worker(self, number: int) -> None:
        self.do(self.books.ledger.end_worker(self.workers[number], "interrupted"))
        self.leases[number] = -1

    @rule(day=days)
    def gone(self, day: str) -> None:
        self.do(self.books.ledger.mark_gone([self.key(day)]))

    @rule(day=days)
    def relist(self, day: str) -> None:
        row = self.row(day)
        self.discover(day, newer=False)
        if row is not None and row["reason"] == "source_gone":
            self.charges[self.key(day)] = 0
            again = self.row(day)
            assert again is not None
            assert again["status"] == Status.PENDING

    @rule(day=days)
    def retry(self, day: str) -> None:
        row = self.row(day)
        if row is None or row["status"] not in FAILED:
            return
        assert self.do(self.books.requeue(self.key(day))) == 1
        self.charges[self.key(day)] = 0

    @rule(day=days)
    def unqueue(self, day: str) -> None:
        row = self.row(day)
        waits = row is not None and row["status"] in WAITING
        assert self.do(self.books.unqueue(self.key(day))) == waits
        if waits and row is not None:
            self.charges[self.key(day)] = 0
            after = self.row(day)
            assert (after is None) == (row["mirrored_revision"] is None)
            if after is not None:
                assert after["status"] == Status.COMPLETED
                self.etags[day] = int(after["source_etag"][1:])

    # -- what always holds ------------------------------------------------------------------------------------------------

    @invariant()
    def the_kept_counts_are_the_recount(self) -> None:
        if self.workers:
            assert self.rows(KEPT) == self.rows(RECOUNT)
            assert self.rows(STRAY) == []

    @invariant()
    def statuses_move_as_the_table_allows(self) -> None:
        if not self.workers:
            return
        now = {row["date"]: Status(row["status"]) for row in self.rows()}
        moved = {(Status(self.before[day]), new) for day, new in now.items() if self.before.get(day, new) != new}
        assert moved <= MOVES | VIA_PENDING
        self.before = dict(now)

    @invariant()
    def every_row_is_consistent(self) -> None:
        for row in self.rows() if self.workers else []:
            done = row["status"] == Status.COMPLETED
            assert not done or (row["mirrored_revision"], row["mirrored_source_etag"]) == (
                row["revision"],
                row["source_etag"],
            )
            assert not done or row["bytes_done"] == row["size"]
            assert row["retry_count"] <= MAX_RETRIES
            assert self.charges.get(row["key"], 0) <= MAX_RETRIES + 1
            assert row["status"] not in PARKED or row["reason"]
            live = self.rows(f"SELECT id FROM uploads WHERE file_id = {row['id']} AND state IN ('open', 'completing')")
            assert not (live and (done or row["status"] in PARKED)), (
                "an upload is left of a file that is done or parked"
            )
            held = self.held.get(row["key"])
            if held and self.is_live(held):
                assert (row["status"], row["attempt"]) == (Status.PROCESSING, held.claim.attempt)


def check_model(on: str = "sqlite", *, examples: int, steps: int) -> int:
    """Drive the ledger through that many histories; the steps that were made. AssertionError where it left the model."""
    made = 0

    class Counted(LedgerMachine):
        store = on

        @invariant()
        def count(self) -> None:
            nonlocal made
            made += 1

    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return made


@pytest.mark.parametrize("store", PLACES)
def test_any_order_of_verbs_keeps_the_ledger_consistent(store: str) -> None:
    assert check_model(store, examples=80, steps=50) > 1000
