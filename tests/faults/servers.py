"""Trouble of the PostgreSQL server under whole runs: two real processes on one ledger, real bytes, and a server that goes.

While it lasts both say so on ``/readyz`` and claim nothing; afterwards both go on by themselves. Nothing is charged, each
file is settled once, and unless leases or commits were lost nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run
from typing import Any

import aiohttp
import psycopg

from polyb2.sandbox import Drip, Fault, GeneratedGzip
from polyb2.sandbox.objects import InMemory
from tests.daemons import reserved_ports
from tests.faults.death import killed, settled, start
from tests.faults.watch import must
from tests.faults.world import LARGE, MIB, World, a_world
from tests.postgres import Pooler, PostgresServer, Standby, pooler_missing, postgres_missing

FILES = [f"us_stocks_sip/day_aggs_v1/2024/01/2024-01-{day:02}.csv.gz" for day in range(4, 32)]
SMALL_BYTES, LARGE_BYTES = 300_000, 24 * MIB
RUNS = 2
CONNECTIONS = 12
TOLD_WITHIN_S, ENDS_WITHIN_S = 30.0, 90.0
LONG_LEASE_S, SHORT_LEASE_S = 30.0, 1.0
DRAIN_S, GRACE_S = 5.0, 15.0
DISK = "96m"
_SUMS = """
SELECT f.key FROM polyb2.files AS f LEFT JOIN polyb2.attempts AS a
    ON a.file_id = f.id AND a.outcome = 'completed' AND a.revision = f.revision
GROUP BY f.key HAVING count(a.attempt) <> 1
"""


@dataclass
class Stage:
    """What a case has to break."""

    world: World
    server: PostgresServer
    database: str
    standby: Standby | None = None
    pooler: Pooler | None = None
    disk: Path | None = None


Act = Callable[[Stage], "Iterator[None]"]


@dataclass(frozen=True)
class Trouble:
    """What goes wrong, and what is seen of it.

    Attributes:
        words: for the report.
        begin: it lasts as long as this.
        told: what both processes must say meanwhile.
        lasts_s: seconds after that.
        lease_s: of the processes.
        needs: of the stage: ``standby``, ``pooler``, ``disk``.
        loses: what the server had confirmed is lost.
    """

    words: str
    begin: Callable[[Stage], Any]
    told: str = "cannot be used: "
    lasts_s: float = 0.5
    lease_s: float = LONG_LEASE_S
    needs: str = ""
    loses: bool = False


def _ends(begin: Callable[[Stage], Any], end: Callable[[Stage], Any]) -> Callable[[Stage], Any]:
    @contextmanager
    def trouble(stage: Stage) -> Iterator[None]:
        begin(stage)
        try:
            yield
        finally:
            end(stage)

    return trouble


@contextmanager
def _read_only(stage: Stage) -> Iterator[None]:
    with stage.server.read_only():
        yield


@contextmanager
def _locked(stage: Stage) -> Iterator[None]:
    with closing(stage.server.connect(stage.database)) as other, other.transaction():
        other.execute("LOCK TABLE polyb2.files")
        yield


@contextmanager
def _crowded(stage: Stage) -> Iterator[None]:
    """Somebody else takes every connection that gets free, and ends those of the runs."""
    with ExitStack() as stack:
        first = stack.enter_context(closing(stage.server.connect()))
        taken = 1
        while taken < CONNECTIONS:
            first.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (stage.database,)
            )
            with suppress(psycopg.OperationalError):
                stack.enter_context(closing(stage.server.connect()))
                taken += 1
        yield


@contextmanager
def _full(stage: Stage) -> Iterator[None]:
    assert stage.disk is not None
    ballast = stage.disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with closing(stage.server.connect()) as other, suppress(psycopg.OperationalError):
        while True:  # until there is no room for the next file of its log
            other.execute("SELECT txid_current(), pg_switch_wal()")
    try:
        yield
    finally:
        ballast.unlink()
        if stage.server.has_ended:  # it could not even write that it ends
            stage.server.start()


@contextmanager
def _failover(stage: Stage) -> Iterator[None]:
    """The standby misses what was committed for two seconds, and takes over."""
    standby = stage.standby
    assert standby is not None
    standby.stop_following()
    time.sleep(2)
    stage.server.kill()
    try:
        yield
    finally:
        standby.promote()


def _pooler(stage: Stage) -> Pooler:
    assert stage.pooler is not None
    return stage.pooler


TROUBLES = (
    Trouble("kill -9 of the postmaster", _ends(lambda it: it.server.kill(), lambda it: it.server.start())),
    Trouble("stop -m immediate", _ends(lambda it: it.server.stop(), lambda it: it.server.start())),
    Trouble(
        "kill -9, away for longer than the lease",
        _ends(lambda it: it.server.kill(), lambda it: it.server.start()),
        lasts_s=3 * SHORT_LEASE_S,
        lease_s=SHORT_LEASE_S,
    ),
    Trouble(
        "stands still for longer than the lease",
        _ends(lambda it: it.server.freeze(), lambda it: it.server.thaw()),
        told="has not answered for",
        lease_s=SHORT_LEASE_S,
    ),
    Trouble("read-only, as one that was demoted", _read_only, told="cannot be used: .*read-only"),
    Trouble("all connections taken by others", _crowded, told="too many clients"),
    Trouble("a lock of somebody else on the table", _locked, told="is busy: canceling statement due to lock timeout"),
    Trouble("its disk full", _full, needs="disk"),
    Trouble(
        "a pooler in between, which is restarted",
        _ends(lambda it: _pooler(it).kill(), lambda it: _pooler(it).start()),
        needs="pooler",
    ),
    Trouble(
        "a pooler in between, the server killed",
        _ends(lambda it: it.server.kill(), lambda it: it.server.start()),
        told="cannot be used: |has not answered",
        lasts_s=2.0,
        needs="pooler",
    ),
    Trouble("a standby takes over that lost the last two seconds", _failover, lease_s=5.0, needs="standby", loses=True),
)


def missing_for(trouble: Trouble) -> str | None:
    """Why a case cannot be played here; None if it can."""
    if trouble.needs == "disk" and os.getuid() != 0:
        return "only root can make a small disk"
    return pooler_missing() if trouble.needs == "pooler" else postgres_missing()


@asynccontextmanager
async def staged(trouble: Trouble) -> AsyncIterator[Stage]:
    """A server with what the case needs beside it, and a world whose ledger is there."""
    with ExitStack() as stack:
        connections = CONNECTIONS if trouble.begin is _crowded else 100
        server = PostgresServer(f"max_connections={connections}", "superuser_reserved_connections=0", durable=True)
        disk = _small_disk(stack, server) if trouble.needs == "disk" else None
        await asyncio.to_thread(stack.enter_context, server)
        database = server.new_database()
        async with a_world() as world:
            stage = Stage(world, server, database, disk=disk)
            world.url = server.url(database)
            world.settings = {"polyb2_give_up": 60.0}  # a pooler tries its server again after a quarter of a minute
            await _publish(world)
            if trouble.needs == "standby":
                stage.standby = await asyncio.to_thread(stack.enter_context, Standby(server))
                world.url = stage.standby.url_with(server, database)
            elif trouble.needs == "pooler":
                stage.pooler = await asyncio.to_thread(stack.enter_context, Pooler(server))
                world.url = stage.pooler.url(database)
            yield stage


def _small_disk(stack: ExitStack, server: PostgresServer) -> Path:
    run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=777", "tmpfs", str(server.folder)], check=True)
    stack.callback(run, ["umount", "-l", str(server.folder)], check=False)
    return server.folder


async def _publish(world: World) -> None:
    for number, key in enumerate(FILES):
        world.publish(key, InMemory(os.urandom(SMALL_BYTES + number)))
    world.publish(LARGE, GeneratedGzip(LARGE_BYTES, seed=7))
    await world.discover()
    world.box.source.inject(Fault("get", Drip(2 * MIB), times=0))


@dataclass
class Runs:
    """Real processes of ``run``, each with a page."""

    world: World
    lease_s: float
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    told: Any = field(default_factory=tempfile.TemporaryFile)

    async def start(self, count: int = RUNS, *words: str) -> None:
        with reserved_ports(count) as ports:
            self.addresses = [f"127.0.0.1:{port}" for port in ports]
        for address in self.addresses:
            self.processes.append(await self._start(address, *words))

    async def _start(self, address: str, *words: str) -> asyncio.subprocess.Process:
        settings = {
            "POLYB2_HTTP_ADDR": address,
            "POLYB2_LEASE_SECONDS": str(self.lease_s),
            "POLYB2_DRAIN_SECONDS": str(DRAIN_S),
            "LOG_LEVEL": "WARNING",
        }
        words = ("run", "--concurrency", "4", *words)
        return await start(self.world, *words, told=self.told, **settings)  # type: ignore[arg-type]

    async def replace(self, index: int, *words: str) -> None:
        """Start one of them again that was killed."""
        self.processes[index] = await self._start(self.addresses[index], *words)

    async def reasons(self) -> list[str]:
        """What each of them says on ``/readyz``; nothing for one that is ready."""
        async with aiohttp.ClientSession() as session:
            return [await _reason(session, address) for address in self.addresses]

    async def tell(self, words: str) -> None:
        """Until all of them say it."""
        found: list[str] = []
        try:
            async with asyncio.timeout(TOLD_WITHIN_S):
                while not (found and all(re.search(words, reason) for reason in found)):
                    self.must_live()
                    found = await self.reasons()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            must(False, f"/readyz says {found}, and not {words}")

    def must_live(self) -> None:
        ended = [process.returncode for process in self.processes if process.returncode is not None]
        must(not ended, f"a run ended with {ended}: {self.said()}")

    def said(self) -> str:
        self.told.seek(0)
        return str(self.told.read().decode(errors="replace")[-1500:])

    async def end(self, within_s: float) -> list[int]:
        """Their exit codes."""
        try:
            return await asyncio.wait_for(asyncio.gather(*(process.wait() for process in self.processes)), within_s)
        except TimeoutError:
            must(False, f"the runs do not come to an end within {within_s} s: {self.said()}")
            raise

    async def kill(self) -> None:
        for process in self.processes:
            await killed(process)
        self.told.close()


async def _reason(session: aiohttp.ClientSession, address: str) -> str:
    try:
        async with session.get(f"http://{address}/readyz", timeout=aiohttp.ClientTimeout(5)) as answer:
            return "; ".join((await answer.json())["reasons"])
    except (aiohttp.ClientError, TimeoutError):
        return ""


@asynccontextmanager
async def under_way(stage: Stage, lease_s: float) -> AsyncIterator[Runs]:
    """Two runs that have completed some files, with more under way."""
    runs, target = Runs(stage.world, lease_s), stage.world.box.target
    try:
        await runs.start()
        async with asyncio.timeout(TOLD_WITHIN_S):
            while target.count("put") < 4 or not target.count("upload_part"):
                runs.must_live()
                await asyncio.sleep(0.02)
        yield runs
    finally:
        await runs.kill()
        await settled(stage.world)


async def survive(trouble: Trouble) -> str:
    """Play one case; what was seen, in words.

    Raises:
        ViolationError: a guarantee did not hold.
    """
    async with staged(trouble) as stage, under_way(stage, trouble.lease_s) as runs:
        world, began = stage.world, trouble.begin(stage)
        await asyncio.to_thread(began.__enter__)
        try:
            await runs.tell(trouble.told)
            await asyncio.sleep(trouble.lasts_s)
            await _claims_stop(world, trouble)
        finally:
            await asyncio.to_thread(began.__exit__, None, None, None)
        codes = await runs.end(ENDS_WITHIN_S)
        must(codes == [0] * RUNS, f"the runs ended with {codes}: {runs.said()}")
        await settled(world)
        return await _check(stage, trouble, keeps=trouble.lease_s == LONG_LEASE_S and not trouble.loses)


async def _claims_stop(world: World, trouble: Trouble) -> None:
    """No file is begun that was not, once what is under way rests."""
    if trouble.told:
        begun = {item.key for item in world.box.source.requests if item.operation == "get"}
        await asyncio.sleep(0.5)
        more = {item.key for item in world.box.source.requests if item.operation == "get"} - begun
        must(not more, f"{more} were begun while the ledger was away")


async def _check(stage: Stage, trouble: Trouble, *, keeps: bool) -> str:
    world = stage.world
    if trouble.loses:
        process = await start(world, "cleanup", "--older-than", "0s")
        must(await process.wait() == 0, "cleanup failed")
    charged = [row["key"] for row in await world.rows() if row["retry_count"]]
    must(not charged, f"a retry was charged to {charged}")
    await world.check_after()
    server = stage.standby if trouble.loses and stage.standby else stage.server
    must(not (found := wrongly_settled(server, stage.database)), f"not settled once: {found}")
    puts, parts, size = *sent(world), world.newest(LARGE).size
    must(not keeps or puts == len(FILES) + 2, f"{puts} PUTs of {len(FILES) + 2} files")
    must(parts == size if keeps else parts <= 2 * size, f"{parts} bytes of parts were sent for {size}")
    return f"{puts} PUTs of {len(FILES) + 2} files, {parts / MIB:.0f} MiB of parts of {size / MIB:.0f}"


def wrongly_settled(server: PostgresServer, database: str) -> list[str]:
    """Files whose revision was not settled as completed exactly once."""
    with closing(server.connect(database)) as connection:
        return [row["key"] for row in connection.execute(_SUMS)]


def sent(world: World) -> tuple[int, int]:
    """PUTs that the target took, and the bytes of parts."""
    taken = [item for item in world.box.target.requests if item.status == 200]
    puts = sum(item.operation == "put" for item in taken)
    return puts, sum(item.bytes_in for item in taken if item.operation == "upload_part")


async def stopped_during(trouble: Trouble) -> str:
    """SIGTERM while it lasts: both end within their grace, and the next run goes on.

    Raises:
        ViolationError: a guarantee did not hold.
    """
    async with staged(trouble) as stage, under_way(stage, SHORT_LEASE_S) as runs:
        began, world = trouble.begin(stage), stage.world
        await asyncio.to_thread(began.__enter__)
        try:
            await runs.tell(trouble.told)
            began_s = time.monotonic()
            for process in runs.processes:
                process.send_signal(signal.SIGTERM)
            codes = await runs.end(DRAIN_S + GRACE_S)
            took_s = time.monotonic() - began_s
        finally:
            await asyncio.to_thread(began.__exit__, None, None, None)
        must(all(code in {0, 1, 143} for code in codes), f"the runs ended with {codes}: {runs.said()}")
        await settled(world)
        await asyncio.sleep(SHORT_LEASE_S)
        world.box.source.clear_faults()
        result = await world.run()
        must(not result.outcome.unfinished, f"the next run left {result.outcome.unfinished}")
        await _check(stage, trouble, keeps=False)
        return f"ended with {codes} after {took_s:.1f} s"
