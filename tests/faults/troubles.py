"""What goes wrong with a PostgreSQL server, and its stage: the server, what is beside it, a world of files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import run
from typing import Any

import psycopg

from polyb2.sandbox import Drip, Fault, GeneratedGzip
from polyb2.sandbox.objects import InMemory
from tests.faults.world import LARGE, MIB, World, a_world
from tests.postgres import Pooler, PostgresServer, Standby, pooler_missing, postgres_missing

FILES = [f"us_stocks_sip/day_aggs_v1/2023/12/2023-12-{day:02}.csv.gz" for day in range(1, 29)]
SMALL_BYTES, LARGE_BYTES = 300_000, 24 * MIB
CONNECTIONS = 12
LONG_LEASE_S, SHORT_LEASE_S = 30.0, 1.0
DISK = "96m"


@dataclass
class Stage:
    """What a case has to break."""

    world: World
    server: PostgresServer
    database: str
    standby: Standby | None = None
    pooler: Pooler | None = None
    disk: Path | None = None


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
    world.box.source.inject(Fault("get", Drip(2 * MIB), key=LARGE, times=0))
    world.box.source.inject(Fault("get", Drip(MIB // 4), key="us_stocks_sip/*", times=0))
