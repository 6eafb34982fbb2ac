"""One small mirror in which something goes wrong, and the guarantees that must hold then and afterwards.

The engine is the real one, in process, over real sockets to the sandbox, with its back-off a hundred times faster and its
patience in fractions of a second. What it does with parts and receipts is watched from outside.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from polyb2.config import Settings
from polyb2.core.errors import Polyb2Error
from polyb2.core.retry import Timing
from polyb2.core.selection import EVERYTHING
from polyb2.core.status import FAILED, Status
from polyb2.engine import RunOptions, RunResult, run
from polyb2.flow.discover.consent import Consent, discover
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.breaker import BreakerState, CircuitBreaker
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Filter
from polyb2.ledger.sqlite.transaction import SqliteTransaction
from polyb2.remote.connectors import authorities
from polyb2.sandbox import GeneratedGzip, Sandbox
from polyb2.sandbox.objects import Content, InMemory
from polyb2.sandbox.server import SandboxServer
from polyb2.session import open_mirror
from tests.faults.watch import Receipts, StepClock, must

MIB = 1 << 20
SMALL = "us_stocks_sip/day_aggs_v1/2024/01/2024-01-03.csv.gz"
LARGE = "us_options_opra/quotes_v1/2024/01/2024-01-03.csv.gz"
OTHER = "us_stocks_sip/day_aggs_v1/2024/01/2024-01-02.csv.gz"
PART_BYTES = 5 * MIB
STALL_S = 0.4
MAX_RETRIES = 1
RUN_WITHIN_S = 60.0
UNHURRIED = Timing(probe_first_s=0.1, probe_fresh_s=0.05, poll_s=0.05, publish_limit_s=0.5)
HURRIED = replace(UNHURRIED, retry_first_s=0.01, retry_limit_s=0.05)
HURRIED_LIMITER = {"START": 2000.0, "FLOOR": 50.0, "SEARCH": 200.0}


def _make_due(ids: list[int], tx: SqliteTransaction) -> None:
    for file_id in ids:
        tx._connection.execute("UPDATE files SET next_attempt_ms = 0 WHERE id = ?", (file_id,))


class World:
    """A sandbox with three files, a ledger, and everything that the source ever published.

    Attributes:
        settings: what is set otherwise than usual.
        cures: what puts right what was broken, the last first.
        patches: what is undone when the world ends.
        lost_ports: those of servers whose names do not resolve.
        clock: the engine's.
        url: of the ledger.
    """

    def __init__(self, box: Sandbox, folder: Path, patches: ExitStack, *, part_bytes: int | None = PART_BYTES) -> None:
        self.box = box
        self.folder = folder
        self.url = f"sqlite:///{folder / 'ledger.db'}"
        self.patches = patches
        self.cures: list[Callable[[], Awaitable[None] | None]] = []
        self.lost_ports: set[int] = set()
        self.clock = StepClock()
        self.timing = HURRIED
        self._later: list[asyncio.Task[None]] = []
        self.receipts = Receipts()
        self.mirror: Mirror | None = None
        self._breaker: CircuitBreaker | None = None
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

    def retouch(self, key: str) -> None:
        """A newer revision of as many bytes, one of them another."""
        content = self.newest(key)
        data = bytearray(content.read(0, content.size))
        data[content.size // 2] ^= 1
        self.publish(key, InMemory(bytes(data)))

    def withdraw(self, key: str) -> None:
        """The source has the file no longer, until the trouble is over."""
        if key in self.box.source._keys:
            self.box.source.remove(key)
            self.cures.append(lambda: self.publish(key, self.newest(key)))

    def server(self, side: str) -> SandboxServer:
        return self.box.source if side == "source" else self.box.target

    def configured(self) -> Settings:
        given: dict[str, Any] = {name.lower(): value for name, value in self.box.environment().items()}
        mine: dict[str, Any] = {
            "database_url": self.url,
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
        async with open_mirror(self.configured(), timing=self.timing) as mirror:
            await discover(Discovery(mirror, EVERYTHING), Consent(10**15, given=True))

    async def run(self, limit: int | None = None, *, selected: bool = False, watch: bool = False) -> RunResult:
        options = RunOptions(
            EVERYTHING if selected else None,
            watch=watch,
            limit=limit,
            consent=Consent(10**15, given=True),
            on_start=self._started,
        )
        async with asyncio.timeout(RUN_WITHIN_S):
            return await run(self.configured(), options, self.clock, self.timing)

    def _started(self, mirror: Mirror, breaker: CircuitBreaker) -> None:
        self.mirror, self._breaker = mirror, breaker

    async def act(self, *, selected: bool = False, watched: bool = False) -> str:
        """Run with whatever is wrong; the error that ended it, in words, or nothing."""
        try:
            await (self._run_until_all_is_done() if watched else self.run(selected=selected))
        except Polyb2Error as error:
            return str(error)
        return ""

    async def _run_until_all_is_done(self) -> None:
        """A run that stays up, stopped when every file is completed."""
        running = asyncio.create_task(self.run(watch=True, selected=True))
        while not running.done():
            done = [row for row in await self.rows() if row["status"] == Status.COMPLETED]
            if len(done) == len(self._published):
                os.kill(os.getpid(), signal.SIGTERM)
                break
            await asyncio.sleep(0.05)
        await running

    def later(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        """Do something while the run goes on."""

        async def acting() -> None:
            await asyncio.sleep(seconds)
            await act()

        self._later.append(asyncio.create_task(acting()))

    async def cure_once_it_waits(self) -> None:
        """Put it right when the run has paused and nothing is under way.

        An attempt whose last try failed before the cure, and which asks the side after it, rightly takes the fault for the
        file's.
        """
        async with asyncio.timeout(RUN_WITHIN_S):
            while not (
                self._breaker and self._breaker.state is BreakerState.OPEN and self.mirror and not self.mirror.in_flight
            ):
                await asyncio.sleep(0.005)
        await self.cure()

    @property
    def _is_waiting(self) -> bool:
        is_open = self._breaker is not None and self._breaker.state is BreakerState.OPEN
        return is_open and self.mirror is not None and not self.mirror.in_flight

    async def cure(self) -> None:
        """Put right what a case broke."""
        while self.cures:
            cured = self.cures.pop()()
            if cured is not None:
                await cured

    async def recover(self) -> None:
        """What was wrong is over: list again, put back what was parked, run to the end."""
        await self.discover()
        async with open_mirror(self.configured(), timing=self.timing) as mirror:
            await mirror.ledger.requeue(EVERYTHING, Filter(frozenset(FAILED)))
        result = await self.run()
        must(not result.outcome.unfinished, f"still not completed: {result.outcome.unfinished}")

    # -- what must hold -----------------------------------------------------------------------------------------------

    async def rows(self) -> list[dict[str, Any]]:
        """Every row of the ledger as ``files --json`` shows it."""
        ledger = await open_ledger(self.url, read_only=True)
        try:
            return [file.as_json() async for file in ledger.files(EVERYTHING)]
        finally:
            await ledger.close()

    async def make_due(self) -> None:
        """The back-off of every file that failed is over."""
        ledger = await open_ledger(self.url)
        try:
            failed = frozenset({Status.FAILED_DOWNLOAD, Status.FAILED_UPLOAD})
            due = partial(_make_due, [file.file_id async for file in ledger.files(EVERYTHING, Filter(failed))])
            await ledger._store.write("test", due)
        finally:
            await ledger.close()

    async def row(self, key: str) -> dict[str, Any]:
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
            must(self.mirror.slots.in_use == 0, f"{self.mirror.slots.in_use} streams are still in use")
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

    def trust(self, certificates: Path) -> None:
        """Take these certificates as ``SSL_CERT_FILE`` would have them taken by a process of its own."""
        self.patches.enter_context(patch.dict(os.environ, SSL_CERT_FILE=str(certificates)))
        authorities.cache_clear()
        self.patches.callback(authorities.cache_clear)

    def resolver_of(self, resolve: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The event loop's resolver, which does not know the hosts of the lost ports."""

        async def resolving(
            loop: asyncio.AbstractEventLoop, host: object, port: object, *args: object, **named: object
        ) -> object:
            if port in self.lost_ports:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return await resolve(loop, host, port, *args, **named)

        return resolving

    @property
    def was_struck(self) -> bool:
        """Whether a fault of a server, if there is one, struck."""
        faults = [*self.box.source._faults, *self.box.target._faults]
        return not faults or any(fault.hits for fault in faults)

    async def heal(self) -> None:
        """What was wrong is over."""
        await asyncio.gather(*self._later)
        await self.cure()
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
async def a_world(*, hashes_only: bool = False, hurried: bool = True, **options: Any) -> AsyncIterator[World]:
    """A world of its own, with the engine's patience shortened.

    Args:
        hashes_only: the target keeps hashes for bytes.
        hurried: back-offs of requests, and the pace of a side that throttles, are a hundred times faster.
        options: of the world.
    """
    with ExitStack() as stack:
        if hurried:
            for name, value in HURRIED_LIMITER.items():
                stack.enter_context(patch(f"polyb2.core.rate_limit.{name}", value))
        stack.enter_context(patch("polyb2.core.retry.RETRY_AFTER_MAX_S", 0.2))
        stack.enter_context(patch("polyb2.ledger.busy_retry.BUSY_S", 3.0))
        stack.enter_context(patch("polyb2.ledger.busy_retry._PAUSE_S", 0.05))
        stack.enter_context(patch("polyb2.ledger.sqlite.lock.BUSY_TRY_S", 0.05))
        stack.enter_context(patch("polyb2.ledger.sqlite.open.BUSY_TRY_S", 0.05))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="polyb2-faults-"))
        async with Sandbox(hashes_only=hashes_only) as box:
            world = World(box, Path(folder), stack, **options)
            world.timing = HURRIED if hurried else UNHURRIED
            resolver = world.resolver_of(asyncio.BaseEventLoop.getaddrinfo)
            stack.enter_context(patch.object(asyncio.BaseEventLoop, "getaddrinfo", resolver))
            with world.receipts.watched():
                yield world


Scene = Callable[[World], Awaitable[None]]
