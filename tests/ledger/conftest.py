"""A ledger on disk, a clock that the test sets, and short words for what tests do with both."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from polyb2.clock import Clock, Moment
from polyb2.core.compare import Change
from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.keys import parse_key
from polyb2.core.parts import PartPlan
from polyb2.core.records import Claim, ListedObject, Mirrored, PartProof, Receipt, Upload
from polyb2.core.selection import EVERYTHING
from polyb2.core.status import Event
from polyb2.core.verdict import judge
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Discovered, FileRow, Filter, Worker
from tests.conftest import DAY_AGGS, key
from tests.ledger.places import PLACES, Place

LEASE_MS = 60_000
SIZE, PART = 30, 10
SENT = Mirrored("sent", "version", "parts")


class SetClock(Clock):
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.moment = Moment(1_767_225_600_000, 5_000_000, "this boot")

    def now(self) -> Moment:
        return self.moment

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        passed = int(seconds * 1000)
        self.moment = Moment(self.moment.wall_ms + passed, self.moment.mono_ms + passed, self.moment.boot_id)

    def step(self, seconds: float) -> None:
        """Set the wall clock to another time; no time passes."""
        self.moment = Moment(self.moment.wall_ms + int(seconds * 1000), self.moment.mono_ms, self.moment.boot_id)

    def reboot(self) -> None:
        self.moment = Moment(self.moment.wall_ms, 1000, "another boot")


def listed(day: str, etag: str = "a", *, size: int = SIZE, modified: int = 0, dataset: str = DAY_AGGS) -> ListedObject:
    return ListedObject(key(day, dataset), size, etag, modified)


@dataclass
class Books:
    """An open ledger with its clock."""

    ledger: Ledger
    clock: SetClock
    place: Place

    async def discover(self, *found: ListedObject, adopted: Mirrored | None = None) -> Counter[Change]:
        """Record a listing page."""
        names = [(parse_key(item.key), item) for item in found]
        return await self.ledger.record([Discovered(name, item, adopted) for name, item in names if name], "to/")

    async def worker(self, worker_id: str = "worker", lease_ms: int = LEASE_MS) -> Worker:
        return await self.ledger.register(worker_id, lease_ms)

    async def next_claim(self, worker: Worker) -> Claim | None:
        """The next row for ``worker``; None where nothing can be claimed now."""
        return next(iter(await self.ledger.claim_up_to(worker, 1)), None)

    async def claim(self, worker: Worker | None = None) -> Claim:
        """A claim that must be possible."""
        claim = await self.next_claim(worker or await self.worker())
        assert claim is not None, "nothing could be claimed"
        return claim

    async def take_over(self) -> Claim:
        """What the next worker gets after the one that holds the row died."""
        self.clock.go_on(LEASE_MS / 1000 + 1)
        return await self.claim()

    async def claimed(self, *found: ListedObject) -> Claim:
        await self.discover(*found)
        return await self.claim()

    async def begin(self, claim: Claim, upload_id: str = "u1") -> Upload:
        plan = PartPlan(claim.revision.size, PART)
        return await self.ledger.begin_upload(claim, "to/" + claim.key, upload_id, plan, PartProof.PARTS)

    async def receive(self, claim: Claim, upload: Upload, *numbers: int) -> None:
        for number in numbers:
            await self.ledger.add_receipt(claim, upload, Receipt(upload.plan.part(number), f"part-{number}", None))

    async def fail(
        self,
        claim: Claim,
        kind: Kind = Kind.STALLED,
        side: Side = Side.SOURCE,
        *,
        delay_s: float = 30,
        outage: bool = False,
        max_retries: int = 2,
    ) -> Event:
        """Settle as the flow does: by the core's verdict on the error."""
        error = RemoteError(side, kind, "it broke")
        verdict = judge(
            error,
            retry_count=claim.retry_count,
            max_retries=max_retries,
            made_progress=await self.ledger.has_progressed(claim),
            forbidden_before=claim.forbidden_before,
            outage=outage,
        )
        return await self.ledger.fail(claim, verdict, str(error), delay_s)

    async def found(self, *keys: str) -> list[FileRow]:
        """The ledger's own rows, all or of these keys."""
        return [file async for file in self.ledger.files(EVERYTHING, Filter(keys=frozenset(keys)))]

    async def requeue(self, *keys: str, disown: bool = False) -> int:
        return await self.ledger.requeue(EVERYTHING, Filter(keys=frozenset(keys)), disown=disown)

    async def unqueue(self, *keys: str) -> int:
        return await self.ledger.unqueue(EVERYTHING, Filter(keys=frozenset(keys)))

    # -- read by a connection of our own ------------------------------------------------------------------------------

    def sql(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        return self.place.sql(statement, *parameters)

    def row(self, day: str, dataset: str = DAY_AGGS) -> dict[str, Any]:
        (row,) = self.sql("SELECT * FROM files WHERE key = ?", key(day, dataset))
        return row

    def status(self, day: str) -> str:
        return str(self.row(day)["status"])

    def uploads(self) -> dict[str, str]:
        return {row["upload_id"]: row["state"] for row in self.sql("SELECT upload_id, state FROM uploads")}


async def python(script: str, *arguments: object) -> asyncio.subprocess.Process:
    """A Python process of its own that runs ``script``; both its pipes are ours."""
    pipe = asyncio.subprocess.PIPE
    words = map(str, arguments)
    return await asyncio.create_subprocess_exec(sys.executable, "-c", script, *words, stdin=pipe, stdout=pipe)


@pytest.fixture(autouse=True)
def _no_connection_outlives_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that a failing test leaves open must not hang the exit."""
    monkeypatch.setattr("aiosqlite.core.Thread", partial(threading.Thread, daemon=True))


@pytest.fixture(autouse=True)
async def _no_thread_outlives_its_loop() -> AsyncIterator[None]:
    yield
    join_threads()


def join_threads() -> None:
    """Wait for the threads of connections that were closed or refused."""
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        if "_connection_worker" in thread.name:
            thread.join(1)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where the ledger of a conformance test is, for each store."""
    found = PLACES[request.param](tmp_path)
    yield found
    found.close()


@pytest.fixture
async def books(place: Place, clock: SetClock) -> AsyncIterator[Books]:
    ledger = await open_ledger(place.url, clock)
    yield Books(ledger, clock, place)
    await ledger.close()
