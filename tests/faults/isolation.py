"""One thing is wrong, and everything else goes on: at what speed, at what price, in how many words. Measured."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from polyb2.sandbox import Answer, Fault, FlipStored, GeneratedGzip, Reset, Stall
from polyb2.sandbox.objects import InMemory
from tests.faults.death import start
from tests.faults.watch import must
from tests.faults.world import MAX_RETRIES, MIB, World, a_world

FILES = 240
GOOD = "us_stocks_sip/minute_aggs_v1/"
"""The files that nothing is wrong with."""
BAD = "us_futures_cme/trades_v1/"
SLOWER_MAX = 1.5
START_S = 0.5
"""Of a run, before and after its files: a part of every time that is compared."""
QUIET_S = 5.0
SETTLES_WITHIN_S = 10
"""What was under way when a run paused uses up its tries first."""
CPU_SHARE_MAX = 0.05
LINES_MAX = 8
KEYS = [
    f"{GOOD}20{year:02}/{month:02}/20{year:02}-{month:02}-03.csv.gz" for year in range(20) for month in range(1, 13)
]


@dataclass(frozen=True)
class Neighbour:
    """What is wrong beside the good files."""

    words: str
    files: int
    arm: Callable[[World], object]
    size: int = 20_000


def _refuse(world: World) -> None:
    world.box.source.entitled = lambda key: not key.startswith(BAD)


def _fault(side: str, operation: str, action: object) -> Callable[[World], object]:
    return lambda world: world.server(side).inject(Fault(operation, action, key=f"{BAD}*", times=0))  # type: ignore[arg-type]


NEIGHBOURS = (
    Neighbour("a file whose PUT always fails", 1, _fault("target", "put", Answer(500, "InternalError"))),
    Neighbour("a file whose bytes are always flipped", 1, _fault("target", "put", FlipStored())),
    Neighbour("a dataset outside the plan", 12, _refuse),
    Neighbour("a large file whose reads stall", 1, _fault("source", "get", Stall(1000)), 21 * MIB),
    Neighbour("a large file whose writes stall", 1, _fault("target", "upload_part", Stall(reading=True)), 21 * MIB),
    Neighbour("ten files whose connections are reset", 10, _fault("source", "get", Reset("before"))),
    Neighbour("a file that is throttled for ever", 1, _fault("target", "put", Answer(503, "SlowDown"))),
)


async def beside(neighbour: Neighbour) -> str:
    """How much longer the good files take beside a neighbour than alone.

    Raises:
        ViolationError: they are held up, or what is wrong is asked again and again.
    """
    alone_s = await _alone_s()
    beside_s = min([await _good_files_s(neighbour) for _ in range(2)])
    factor = (beside_s + START_S) / (alone_s + START_S)
    must(factor < SLOWER_MAX, f"{FILES} files took {beside_s:.2f} s instead of {alone_s:.2f} s")
    return f"{FILES} files in {beside_s:.2f} s, alone in {alone_s:.2f} s"


_ALONE_S: list[float] = []


async def _alone_s() -> float:
    """The best of three, measured once."""
    if not _ALONE_S:
        _ALONE_S.append(min([await _good_files_s(None) for _ in range(3)]))
    return _ALONE_S[0]


async def _good_files_s(neighbour: Neighbour | None) -> float:
    async with a_world(hurried=False) as world:
        world.settings = {"polyb2_concurrency": 8, "polyb2_stall_timeout": 1.0}
        for key in KEYS:
            world.publish(key, InMemory(os.urandom(20_000)))
        for number in range(neighbour.files if neighbour else 0):
            size = neighbour.size if neighbour else 0
            content = GeneratedGzip(size) if size > MIB else InMemory(os.urandom(size))
            world.publish(
                f"{BAD}2024/{number // 28 + 1:02}/2024-{number // 28 + 1:02}-{number % 28 + 1:02}.csv.gz", content
            )
        await world.discover()
        if neighbour:
            neighbour.arm(world)
        began_s = time.monotonic()
        await world.run()
        done = [
            item.when_s for item in world.box.target.requests if item.operation == "put" and item.key.startswith(GOOD)
        ]
        must(len(done) >= FILES, f"{len(done)} of {FILES} good files were sent")
        await _check_bad(world)
        return max(done) - began_s


async def _check_bad(world: World) -> None:
    """What is wrong was tried as often as the rules say: three tries of a request, an attempt and its retries."""
    asked = [item for item in world.box.source.requests if item.key.startswith(BAD) and item.operation == "get"]
    files = {item.key for item in asked}
    most = max((sum(item.key == key and item.range == asked[0].range for item in asked) for key in files), default=0)
    must(most <= 3 * 3 * (MAX_RETRIES + 1), f"a request was sent {most} times")
    await world.check_meanwhile()


async def quiet_while_away(side: str, condition: str) -> str:
    """A side is away under a run that stays up with a full queue: it costs next to nothing and is told once.

    Raises:
        ViolationError: it spins, or it says so again and again.
    """
    async with a_world() as world:
        for key in KEYS:
            world.publish(key, InMemory(os.urandom(2000)))
        await world.discover()
        server = world.server(side)
        asked = len(server.requests)
        if condition == "gone":
            await server.stop()
        else:
            setattr(server, condition, True)
        told = world.folder / "told"
        with told.open("wb") as out:
            process = await start(world, "run", "--watch", LOG_LEVEL="INFO", told=out)
            try:
                while b"paused" not in told.read_bytes():
                    await asyncio.sleep(0.05)
                shares = [await _share_of_a_core(process.pid, 1.0)]
                while shares[-1] >= CPU_SHARE_MAX and len(shares) < SETTLES_WITHIN_S:
                    shares.append(await _share_of_a_core(process.pid, 1.0))
                share = await _share_of_a_core(process.pid, QUIET_S)
                asked = len(server.requests) - asked
                must(share < CPU_SHARE_MAX, f"it used {share:.0%} of a core while it waited")
                if condition == "gone":
                    await server.start()
                setattr(server, condition, False)
                while any(row["status"] != "completed" for row in await world.rows()):
                    await asyncio.sleep(0.1)
            finally:
                process.terminate()
                await process.wait()
        must(process.returncode == 0, f"it ended with {process.returncode}")
        said = told.read_text().splitlines()
        paused = sum("paused" in line for line in said)
        rest = [line for line in said if " done " not in line]
        must(paused == 1, f"it said {paused} times that it paused")
        must(len(rest) <= LINES_MAX, f"{len(rest)} lines: {rest}")
        must(not any(row["retry_count"] for row in await world.rows()), "a retry was charged")
        await world.check_after()
        return f"{share:.1%} of a core, {asked} requests in {QUIET_S:.0f} s and before, told once"


async def _share_of_a_core(pid: int, seconds: float) -> float:
    began_s, cpu_s = time.monotonic(), _cpu_s(pid)
    await asyncio.sleep(seconds)
    return (_cpu_s(pid) - cpu_s) / (time.monotonic() - began_s)


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
