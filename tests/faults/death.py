"""Sudden death: ``kill -9`` of a real process at every ledger write and around every request, and at random moments.

After each death the next run must end as if nothing had happened: what had a receipt is not sent again, and a kill costs at
most streams x part size.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import IO, Any
from unittest.mock import patch

from polyb2 import failpoints
from polyb2.sandbox import Drip, Fault, GeneratedGzip
from polyb2.sandbox.objects import InMemory
from tests import forked
from tests.faults.scenes import superseded
from tests.faults.watch import must
from tests.faults.world import LARGE, MIB, PART_BYTES, World, a_world

STREAMS = 4
LEASE_S = 1


class _Recorder(dict[str, Any]):
    """Stands in for the armed failpoints and notes which are passed."""

    def __init__(self) -> None:
        super().__init__({"": None})
        self.passed: Counter[str] = Counter()

    def get(self, key: str, default: Any = None) -> Any:
        self.passed[key] += 1
        return default


@contextmanager
def _recorded() -> Iterator[Counter[str]]:
    recorder = _Recorder()
    with patch.object(failpoints, "_points", recorder):
        yield recorder.passed


async def kill_points() -> list[tuple[str, str, int]]:
    """Every point of a first mirror, and of one that finds a half-sent older revision: scene, point, number of passing."""
    points: list[tuple[str, str, int]] = []
    for scene in ("fresh", "superseded"):
        async with _world(scene) as world:
            with _recorded() as passed:
                await world.run(selected=True)
        for name, times in sorted(passed.items()):
            points += [(scene, name, nth) for nth in sorted({1, (times + 1) // 2, times})]
    return points


@asynccontextmanager
async def _world(scene: str) -> AsyncIterator[World]:
    async with a_world() as world:
        if scene == "superseded":
            await superseded(world)
        world.settings = {"polyb2_lease_seconds": float(LEASE_S), "polyb2_part_tries": 10}
        yield world


def environment_of(world: World) -> dict[str, str]:
    """Of a process on the world's ledger."""
    return {
        "PATH": os.environ["PATH"],
        **world.box.environment(),
        "DATABASE_URL": world.url,
        "POLYB2_HTTP_ADDR": "",
        "POLYB2_PART_SIZE": str(PART_BYTES),
        "POLYB2_RETRY_BASE": "20ms",
        "POLYB2_LEASE_SECONDS": str(LEASE_S),
        "LOG_LEVEL": "ERROR",
    }


async def start(
    world: World,
    *words: str,
    told: IO[bytes] | None = None,
    out: IO[bytes] | None = None,
    before: Sequence[str] = (),
    **extra: str,
) -> asyncio.subprocess.Process:
    """A real process of polyb2 on the world's ledger; what it says on stderr goes to ``told``, or is shown.

    Args:
        world: whose settings it gets.
        words: of its command line.
        told: where stderr goes.
        out: where stdout goes; nowhere by default.
        before: a command that runs it, as ``setpriv`` does.
        extra: settings, and the rest of its environment.
    """
    environment = environment_of(world) | extra
    if not before and forked.serves(extra):
        return await forked.start(words, world.folder, environment, out=out or asyncio.subprocess.DEVNULL, err=told)
    return await asyncio.create_subprocess_exec(
        *before,
        sys.executable,
        "-m",
        "polyb2",
        *words,
        cwd=world.folder,
        env=environment,
        stdout=out or asyncio.subprocess.DEVNULL,
        stderr=told,
    )


async def killed(process: asyncio.subprocess.Process) -> int:
    """Kill it, unless it has ended already; its exit code.

    Its own ``kill()`` looks first whether it has just ended, and so takes the code away from asyncio, which says 255 then.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return await process.wait()


SYNC = ("sync", "--historical", "--dataset", "*/*", "--yes", "--concurrency", str(STREAMS))


async def die_at(scene: str, point: str, nth: int) -> bool:
    """Kill a process at a point, and recover; False if it ended before it came there (timing decides some requests).

    Raises:
        ViolationError: a guarantee did not hold.
    """
    async with _world(scene) as world:
        process = await start(world, *SYNC, POLYB2_FAILPOINTS=f"{point}=kill@{nth}")
        code = await process.wait()
        await settled(world)
        must(code in {0, -signal.SIGKILL}, f"the process ended with {code}")
        await recover(world)
        return code != 0


async def settled(world: World) -> None:
    """Until the servers are done with what a dead process had sent."""
    while world.box.target.in_flight or world.box.source.in_flight:
        await asyncio.sleep(0.005)


async def recover(world: World) -> None:
    """What the next run makes of it."""
    world.receipts.prime(receipts_of(world))
    sent_before = bytes_of_parts(world)
    left = missing_bytes(world)
    await world.run(selected=True)
    await world.check_after()
    again = bytes_of_parts(world) - sent_before - left
    must(again <= 0, f"{again} bytes of parts with a receipt were sent again")


def receipts_of(world: World) -> set[tuple[str, int]]:
    """Upload id and number of every part with a receipt of an upload that still stands."""
    sql = "SELECT u.upload_id, p.number FROM parts p JOIN uploads u ON u.id = p.upload WHERE u.state <> 'abandoned'"
    return {(row[0], row[1]) for row in _query(world, sql)}


def missing_bytes(world: World) -> int:
    """Bytes of the large file that have no receipt at its newest revision (all if nothing is on record)."""
    size = world.newest(LARGE).size
    sql = (
        "SELECT coalesce(sum(p.length), 0) FROM parts p JOIN uploads u ON u.id = p.upload JOIN files f ON f.id = u.file_id "
        "WHERE u.revision = f.revision AND f.size = ? AND u.state <> 'abandoned'"
    )
    return size - int(_query(world, sql, size)[0][0])


def _query(world: World, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    path = world.folder / "ledger.db"
    if not path.exists():
        return [(0,)] if "coalesce" in sql else []
    with closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError:  # killed before the ledger had its tables
            return [(0,)] if "coalesce" in sql else []


def bytes_of_parts(world: World) -> int:
    """Bytes of all parts that the target took."""
    taken = [item for item in world.box.target.requests if item.operation == "upload_part" and item.status == 200]
    return sum(item.bytes_in for item in taken)


class Soak:
    """Random kills under load, while the source replaces files. ``costs`` are the bytes sent again for each kill."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.costs: list[int] = []
        self.starts = 0

    @property
    def kills(self) -> int:
        return len(self.costs)

    async def run(self, kills: int) -> None:
        """Kill ``kills`` times; then recover.

        Raises:
            ViolationError: a guarantee did not hold.
        """
        async with a_world() as world:
            world.settings = {"polyb2_lease_seconds": float(LEASE_S), "polyb2_part_tries": 10}
            world.box.source.inject(Fault("get", Drip(8 * MIB), times=0))
            for day in range(4, 24):
                world.publish(
                    f"us_stocks_sip/day_aggs_v1/2024/01/2024-01-{day:02}.csv.gz", InMemory(os.urandom(20_000))
                )
            while self.kills < kills:
                await self._one(world)
            world.box.source.clear_faults()
            await recover_all(world)

    async def _one(self, world: World) -> None:
        if self.starts % 2 == 0:
            world.publish(LARGE, GeneratedGzip((30 + self.starts % 5) * MIB, seed=self.starts))
        if self.starts % 4 == 1:
            world.replace("us_stocks_sip/day_aggs_v1/2024/01/2024-01-03.csv.gz")
        self.starts += 1
        cost = Cost(world)
        requests = len(world.box.target.requests)
        process = await start(world, *SYNC)
        while len(world.box.target.requests) == requests and process.returncode is None:
            await asyncio.sleep(0.005)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self.chance.uniform(0.0, 0.9))
        code = await killed(process)
        await settled(world)
        must(code in {0, -signal.SIGKILL}, f"a run ended with {code}")
        if code != 0:
            self.costs.append(cost.so_far())
        must(cost.so_far() <= STREAMS * PART_BYTES, f"a kill cost {cost.so_far()} bytes")


def sent_bytes(world: World) -> int:
    """Bytes of parts that reached the target, whatever became of them."""
    return sum(item.bytes_in for item in world.box.target.requests if item.operation == "upload_part")


def receipts_on_record(world: World) -> dict[tuple[str, int], int]:
    """Bytes of every receipt by upload id and part number."""
    sql = "SELECT u.upload_id, p.number, p.length FROM parts p JOIN uploads u ON u.id = p.upload"
    return {(row[0], row[1]): row[2] for row in _query(world, sql)}


class Cost:
    """What a process makes the target take beyond what it has receipts for when it ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent, self._receipts = sent_bytes(world), receipts_on_record(world)

    def so_far(self) -> int:
        """Bytes."""
        gained = {
            name: length for name, length in receipts_on_record(self._world).items() if name not in self._receipts
        }
        return sent_bytes(self._world) - self._sent - sum(gained.values())


async def recover_all(world: World) -> None:
    await world.run(selected=True)
    await world.check_after()
