"""A soak of a fleet: four processes on one PostgreSQL; workers and the server are killed, others look on and work beside.

Afterwards bucket, source and ledger are compared: every revision is settled once, and no file was sent whole twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections import Counter
from contextlib import closing

from polyb2.core.status import Status
from polyb2.sandbox import Drip, Fault, GeneratedGzip
from polyb2.sandbox.objects import InMemory
from tests.faults.death import killed, settled, start
from tests.faults.onlookers import DATASETS, LISTS, Onlookers
from tests.faults.servers import Runs, wrongly_settled
from tests.faults.troubles import Stage, Trouble, staged
from tests.faults.watch import must
from tests.faults.world import LARGE, MIB, World

WORKERS = 4
LEASE_S = 3.0
WORKER_KILLS_A_SERVER_KILL = 5
FILES_A_ROUND = 6
SETTLES_WITHIN_S = 120.0
LOOKS: tuple[tuple[str, ...], ...] = (("status", "--json"), ("files", "--json"))
_BARE = Trouble("nothing yet", lambda _stage: None)
_COUNTED = "SELECT dataset, status, count(*) AS files FROM polyb2.files GROUP BY dataset, status"
_KEPT = "SELECT dataset, status, sum(files) AS files FROM polyb2.counts GROUP BY dataset, status HAVING sum(files) <> 0"


class FleetSoak:
    """Kills at random; ``worker_kills`` and ``server_kills`` count them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.worker_kills = self.server_kills = self.commands = self.refused = 0
        self._round = 0

    async def run(self, worker_kills: int) -> str:
        """Kill so many workers, and a fifth as often the server; what was played, in words.

        Raises:
            ViolationError: a guarantee did not hold.
        """
        async with staged(_BARE) as stage:
            stage.world.box.source.clear_faults()
            stage.world.box.source.inject(Fault("get", Drip(4 * MIB), times=0))
            runs = Runs(stage.world, LEASE_S)
            try:
                await runs.start(WORKERS, "--watch", "--yes")
                looks = await self._play(stage, runs, worker_kills)
                await self._rest(stage, runs)
            finally:
                await runs.kill()
                await settled(stage.world)
            await check(stage)
        return (
            f"{self.worker_kills} kills of workers, {self.server_kills} of the server, {self.commands} other commands "
            f"({self.refused} without a server), {looks} answers of pages and metrics"
        )

    async def _play(self, stage: Stage, runs: Runs, worker_kills: int) -> int:
        onlookers = Onlookers(runs.addresses[0])
        async with onlookers.looking():
            while self.worker_kills < worker_kills:
                others = asyncio.create_task(self._others(stage.world))
                try:
                    for _ in range(WORKER_KILLS_A_SERVER_KILL):
                        await self._kill_a_worker(runs)
                    await self._kill_the_server(stage)
                    await others
                finally:
                    others.cancel()
                # Without a server the page says in words that the ledger cannot be read.
                wrong = [words for words in onlookers.troubles if not words.endswith("503")]
                must(not wrong, f"kill {self.worker_kills}: {wrong[:3]}")
        return onlookers.looks

    async def _kill_a_worker(self, runs: Runs) -> None:
        await asyncio.sleep(self.chance.uniform(0.2, 2.0))
        index = self.chance.randrange(WORKERS)
        runs.must_live()
        await killed(runs.processes[index])
        await runs.replace(index, "--watch", "--yes")
        self.worker_kills += 1

    async def _kill_the_server(self, stage: Stage) -> None:
        end = stage.server.kill if self.chance.random() < 0.5 else stage.server.stop
        await asyncio.to_thread(end)
        await asyncio.sleep(self.chance.uniform(0.0, 2 * LEASE_S))
        await asyncio.to_thread(stage.server.start)
        self.server_kills += 1

    async def _others(self, world: World) -> None:
        """Publish, have it listed, and look."""
        self._round += 1
        for number in range(FILES_A_ROUND):
            month = f"{self._round % 12 + 1:02}"
            key = f"us_stocks_sip/day_aggs_v1/2023/{month}/2023-{month}-{number + 1:02}.csv.gz"
            world.publish(key, InMemory(os.urandom(200_000)))
        if self._round % 2:
            world.publish(LARGE, GeneratedGzip((20 + self._round % 5) * MIB, seed=self._round))
        for words in (LISTS, *LOOKS):
            with tempfile.TemporaryFile() as told:
                process = await start(world, *words, told=told, POLYB2_DATASETS=DATASETS)
                code = await process.wait()
                told.seek(0)
                said = told.read().decode(errors="replace")
            self.commands += 1
            self.refused += code == 1
            must(code == 0 or (code == 1 and "the ledger in" in said), f"{words[0]} ended with {code}: {said[-500:]}")

    async def _rest(self, stage: Stage, runs: Runs) -> None:
        """List once more, and wait until all is mirrored."""
        world = stage.world
        process = await start(world, *LISTS, POLYB2_DATASETS=DATASETS)
        must(await process.wait() == 0, "the last listing failed")
        world.box.source.clear_faults()
        try:
            async with asyncio.timeout(SETTLES_WITHIN_S):
                while any(row["status"] != Status.COMPLETED for row in await world.rows()):
                    runs.must_live()
                    await asyncio.sleep(0.5)
        except TimeoutError:
            left = Counter(str(row["status"]) for row in await world.rows())
            must(False, f"the fleet does not come to an end: {left}; {runs.said()}")


async def check(stage: Stage) -> None:
    """Compare bucket, source and ledger.

    Raises:
        ViolationError: they differ, or something was done twice.
    """
    world = stage.world
    charged = [row["key"] for row in await world.rows() if row["retry_count"]]
    must(not charged, f"a retry was charged to {charged}")
    must(not (found := wrongly_settled(stage.server, stage.database)), f"not settled once: {found}")
    for row in await world.rows():
        versions = [version.read(0, version.size) for version in world.box.target.versions(row["key"])]
        must(len(versions) == len(set(versions)), f"{row['key']} was sent whole twice")
    with closing(stage.server.connect(stage.database)) as connection:
        counted, kept = (
            {(row["dataset"], row["status"]): int(row["files"]) for row in connection.execute(sql)}
            for sql in (_COUNTED, _KEPT)
        )
    must(counted == kept, f"the kept counts say {kept}, a recount {counted}")
    await world.check_after()
