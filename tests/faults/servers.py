"""Trouble of the PostgreSQL server under whole runs: two real processes on one ledger, real bytes, and a server that goes.

While it lasts both say so on ``/readyz`` and claim nothing; afterwards both go on by themselves. Nothing is charged, each
file is settled once, and unless leases or commits were lost nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.daemons import reserved_ports
from tests.faults.death import killed, settled, start
from tests.faults.troubles import FILES, LONG_LEASE_S, SHORT_LEASE_S, Stage, Trouble, staged
from tests.faults.watch import must
from tests.faults.world import LARGE, MIB, World
from tests.postgres import PostgresServer

RUNS = 2
TOLD_WITHIN_S, ENDS_WITHIN_S = 30.0, 90.0
DRAIN_S, GRACE_S = 5.0, 15.0
SMALL_S = 2.0
"""More than a small file takes."""
_SUMS = """
SELECT f.key FROM polyb2.files AS f LEFT JOIN polyb2.attempts AS a
    ON a.file_id = f.id AND a.outcome = 'completed' AND a.revision = f.revision
GROUP BY f.key HAVING count(a.attempt) <> 1
"""


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
            # Commits that are lost are to be those of small files, which are whole in a moment.
            while target.count("put") < 4 or not (stage.standby or target.count("upload_part")):
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
        await asyncio.sleep(SMALL_S)  # what was claimed just before is noted when it was answered
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
