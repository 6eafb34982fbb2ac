"""One small mirror in which something goes wrong, and the guarantees that must hold then and afterwards.

The engine is the real one, in process, over real sockets to the sandbox, with its back-off a hundred times faster and its
patience in fractions of a second. What it does with parts and receipts is watched from outside.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from polyb2.config import Settings
from polyb2.core.errors import Polyb2Error
from polyb2.core.parts import Part
from polyb2.core.records import Claim, Receipt, Upload
from polyb2.core.retry import RequestPolicy
from polyb2.core.selection import EVERYTHING
from polyb2.core.status import FAILED, Status
from polyb2.engine import RunOptions, RunResult, run
from polyb2.flow.consent import Consent, discover
from polyb2.flow.discover import Discovery
from polyb2.flow.mirror import Mirror
from polyb2.ledger.database import Row, Transaction
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.reports import Filter
from polyb2.opening import open_mirror
from polyb2.remote.relay import Relay
from polyb2.remote.target import Target
from polyb2.sandbox import GeneratedGzip, Sandbox
from polyb2.sandbox.objects import Content, InMemory

MIB = 1 << 20
SMALL = "us_stocks_sip/day_aggs_v1/2024/01/2024-01-03.csv.gz"
LARGE = "us_options_opra/quotes_v1/2024/01/2024-01-03.csv.gz"
OTHER = "us_stocks_sip/day_aggs_v1/2024/01/2024-01-02.csv.gz"
PART_BYTES = 5 * MIB
STALL_S = 0.3
MAX_RETRIES = 1
RUN_WITHIN_S = 60.0


class ViolationError(AssertionError):
    """A guarantee did not hold."""


def must(condition: object, words: str) -> None:
    if not condition:
        raise ViolationError(words)


class Receipts:
    """Watches that no part with a receipt is sent again while its upload stands."""

    def __init__(self) -> None:
        self._have: set[tuple[str, int]] = set()
        self.checks = 0

    def prime(self, have: set[tuple[str, int]]) -> None:
        """Receipts that another process wrote: upload id and part number."""
        self._have |= have

    @contextmanager
    def watched(self) -> Iterator[None]:
        put_part, add, drop = Target.put_part, Ledger.add_receipt, Ledger.drop_receipts

        async def putting(target: Target, upload: Upload, part: Part, body: Relay, *, fresh: bool) -> str:
            self.checks += 1
            must(
                (upload.upload_id, part.number) not in self._have, f"part {part.number} has a receipt and is sent again"
            )
            return await put_part(target, upload, part, body, fresh=fresh)

        async def adding(ledger: Ledger, claim: Claim, upload: Upload, receipt: Receipt) -> None:
            await add(ledger, claim, upload, receipt)
            self._have.add((upload.upload_id, receipt.part.number))

        async def dropping(ledger: Ledger, claim: Claim, upload: Upload, numbers: Iterable[int]) -> None:
            dropped = list(numbers)
            await drop(ledger, claim, upload, dropped)
            self._have -= {(upload.upload_id, number) for number in dropped}

        with (
            patch.object(Target, "put_part", putting),
            patch.object(Ledger, "add_receipt", adding),
            patch.object(Ledger, "drop_receipts", dropping),
        ):
            yield


def _make_due(ids: list[int], tx: Transaction) -> None:
    for file_id in ids:
        tx._connection.execute("UPDATE files SET next_attempt_ms = 0 WHERE id = ?", (file_id,))


class World:
    """A sandbox with three files, a ledger, and everything that the source ever published."""

    def __init__(self, box: Sandbox, folder: Path, *, part_bytes: int | None = PART_BYTES) -> None:
        self.box = box
        self.folder = folder
        self.receipts = Receipts()
        self.mirror: Mirror | None = None
        self._part_bytes = part_bytes
        self._published: dict[str, list[Content]] = {}
        self.settings: dict[str, Any] = {}
        self.publish(SMALL, InMemory(b"row of a small file\n" * 1000))
        self.publish(OTHER, InMemory(b"row of another\n" * 100))
        self.publish(LARGE, GeneratedGzip(11 * MIB))

    def publish(self, key: str, content: Content) -> None:
        """Publish a file at the source, or replace it."""
        self._published.setdefault(key, []).append(content)
        self.box.source.put(key, content, part_bytes=self._part_bytes if content.size > PART_BYTES else None)

    def newest(self, key: str) -> Content:
        return self._published[key][-1]

    def replace(self, key: str) -> None:
        """A newer revision of a file, with other bytes and another size."""
        number = len(self._published[key])
        if key == LARGE:
            self.publish(key, GeneratedGzip(6 * MIB + number * 300_000, seed=number))
        else:
            self.publish(key, InMemory(f"revision {number}\n".encode() * 700))

    def configured(self) -> Settings:
        given: dict[str, Any] = {name.lower(): value for name, value in self.box.environment().items()}
        mine: dict[str, Any] = {
            "database_url": f"sqlite:///{self.folder / 'ledger.db'}",
            "polyb2_http_addr": "",
            "polyb2_concurrency": 4,
            "polyb2_part_size": PART_BYTES,
            "polyb2_part_tries": 3,
            "polyb2_max_retries": MAX_RETRIES,
            "polyb2_retry_base": 0.02,
            "polyb2_lease_seconds": 5.0,
            "polyb2_stall_timeout": STALL_S,
            "polyb2_give_up": 1.0,
            "polyb2_drain_seconds": 2.0,
        }
        return Settings(**(given | mine | self.settings))

    # -- acts ---------------------------------------------------------------------------------------------------------

    async def discover(self) -> None:
        async with open_mirror(self.configured()) as mirror:
            await discover(Discovery(mirror, EVERYTHING), Consent(10**15, given=True))

    async def run(self, limit: int | None = None, *, selected: bool = False) -> RunResult:
        options = RunOptions(
            EVERYTHING if selected else None,
            watch=False,
            limit=limit,
            consent=Consent(10**15, given=True),
            on_start=self._started,
        )
        async with asyncio.timeout(RUN_WITHIN_S):
            return await run(self.configured(), options)

    def _started(self, mirror: Mirror, _outage: object) -> None:
        self.mirror = mirror

    async def act(self, *, selected: bool = False) -> str:
        """Run with whatever is wrong; the error that ended it, in words, or nothing."""
        try:
            await self.run(selected=selected)
        except Polyb2Error as error:
            return str(error)
        return ""

    async def recover(self) -> None:
        """What was wrong is over: list again, put back what was parked, run to the end."""
        await self.discover()
        async with open_mirror(self.configured()) as mirror:
            parked = [row async for row in mirror.ledger.files(EVERYTHING, Filter(frozenset(FAILED)))]
            await mirror.ledger.requeue(parked)
        result = await self.run()
        must(not result.outcome.unfinished, f"still not completed: {result.outcome.unfinished}")

    # -- what must hold -----------------------------------------------------------------------------------------------

    async def rows(self) -> list[Row]:
        ledger = await Ledger.open(self.folder / "ledger.db", read_only=True)
        try:
            return [row async for row in ledger.files(EVERYTHING)]
        finally:
            await ledger.close()

    async def make_due(self) -> None:
        """The back-off of every file that failed is over."""
        ledger = await Ledger.open(self.folder / "ledger.db")
        try:
            failed = frozenset({Status.FAILED_DOWNLOAD, Status.FAILED_UPLOAD})
            due = partial(_make_due, [row["id"] async for row in ledger.files(EVERYTHING, Filter(failed))])
            await ledger._database.write("test", due)
        finally:
            await ledger.close()

    async def row(self, key: str) -> Row:
        return next(row for row in await self.rows() if row["key"] == key)

    def stored(self, key: str) -> bytes | None:
        current = self.box.target.current(key)
        return None if current is None else current.read(0, current.size)

    def is_published(self, key: str, data: bytes) -> bool:
        """Whether the source ever had these bytes under the key."""
        return any(content.size == len(data) and content.read(0, len(data)) == data for content in self._published[key])

    async def check_meanwhile(self) -> None:
        """The guarantees that hold at any time, here after the run that met the trouble."""
        target = self.box.target
        for key in self._published:
            for version in target.versions(key):
                data = version.read(0, version.size)
                must(self.is_published(key, data), f"{key} in the bucket is no revision of the source")
        for row in await self.rows():
            status = Status(row["status"])
            must(status is not Status.PROCESSING, f"{row['key']} is left in processing")
            must(row["retry_count"] <= MAX_RETRIES, f"{row['key']} has {row['retry_count']} retries")
            if status in FAILED:
                must(row["reason"] and row["error_message"], f"{row['key']} does not say why it failed")
            if status is Status.COMPLETED:
                current = target.current(row["key"])
                must(current is not None and current.etag == row["dest_etag"], f"{row['key']} is not what the row says")
        await self.check_idle()

    async def check_idle(self) -> None:
        """No slot, no socket and no task is left of a run that ended."""
        if self.mirror is not None:
            must(self.mirror.streams.in_use == 0, f"{self.mirror.streams.in_use} streams are still in use")
            must(not self.mirror.in_flight, "files are still in flight")
        for server in (self.box.source, self.box.target):
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while server._connections:
                        await asyncio.sleep(0.005)
            must(not server._connections, f"{len(server._connections)} sockets are still open")
        names = ("file ", "part of ", "expand ", "create ", "heartbeat", "dispatch", "pool", "sweeper", "discovery")
        left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(names)]
        must(not left, f"tasks are left: {left}")

    async def check_after(self) -> None:
        """The trouble is over: every file is there, whole, in its newest revision, and nothing else is left."""
        for row in await self.rows():
            must(row["status"] == Status.COMPLETED, f"{row['key']} is {row['status']}: {row['error_message']}")
            newest = self.newest(row["key"])
            must(self.stored(row["key"]) == newest.read(0, newest.size), f"{row['key']} is not the newest revision")
        must(self.box.target.open_uploads() == [], "an upload is left over")
        must(len(await self.rows()) == len(self._published), "a file is missing in the ledger")
        await self.check_meanwhile()

    def heal(self) -> None:
        """What was wrong with the servers is over."""
        source, target = self.box.source, self.box.target
        for server in (source, target):
            server.clear_faults()
            server.keys_revoked = False
            server.clock_offset_s = 0.0
        source.entitled = lambda _key: True
        source.honours_if_match = True
        target.cap_exceeded = False
        target.etags = "md5"


@asynccontextmanager
async def a_world(**options: Any) -> AsyncIterator[World]:
    """A world of its own, with the engine's patience shortened."""
    make: Callable[..., RequestPolicy] = RequestPolicy
    with ExitStack() as stack:
        stack.enter_context(
            patch("polyb2.opening.RequestPolicy", lambda tries: make(tries=tries, first_s=0.01, limit_s=0.05))
        )
        stack.enter_context(patch("polyb2.flow.outage.PROBE_FIRST_S", 0.1))
        stack.enter_context(patch("polyb2.flow.outage.PROBE_FRESH_S", 0.05))
        stack.enter_context(patch("polyb2.flow.pool.POLL_S", 0.05))
        stack.enter_context(patch("polyb2.flow.publish.LOOK_FOR_S", 0.5))
        stack.enter_context(patch("polyb2.core.retry.RETRY_AFTER_MAX_S", 0.2))
        stack.enter_context(patch("polyb2.ledger.patience.BUSY_S", 3.0))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="polyb2-faults-"))
        async with Sandbox() as box:
            world = World(box, Path(folder), **options)
            with world.receipts.watched():
                yield world


Scene = Callable[[World], Awaitable[None]]
