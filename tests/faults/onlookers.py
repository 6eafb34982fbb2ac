"""A soak that is looked at: the page is open and scraped all the while, and other commands write beside the run, with kills.

After each kill the next run goes on beside the same onlookers. Once it rests, the ledger is whole, and everybody tells the
same: ``status``, ``/metrics``, the page, and a recount of the rows.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import aiohttp

from polyb2.core.status import Status
from polyb2.sandbox import Drip, Fault, GeneratedGzip
from polyb2.sandbox.objects import InMemory
from tests.daemons import reserved_ports
from tests.faults.death import STREAMS, killed, recover_all, settled, start
from tests.faults.watch import must
from tests.faults.witnesses import Counts, counted, damage_of, deleted_files, kept, of_metrics, of_page, of_status
from tests.faults.world import LARGE, MIB, SMALL, World, a_world

DATASETS = "us_stocks_sip/day_aggs_v1,us_options_opra/quotes_v1"
FILES = [f"us_stocks_sip/day_aggs_v1/2024/01/2024-01-{day:02}.csv.gz" for day in range(4, 16)]
CHOSEN = ("--historical", "--dataset", "*/*")
LISTS = ("discover", *CHOSEN, "--yes")
OTHERS: tuple[tuple[str, ...], ...] = (
    LISTS,
    ("run", "--limit", "2", "--concurrency", "2"),
    ("retry", "--dataset", "*/*", "--status", "failed_upload,failed_download"),
    ("retry", FILES[0]),
    ("unqueue", "--dataset", "us_stocks_sip/*"),
    ("unqueue", FILES[1]),
    ("status", "--json"),
    ("files", "--json"),
    ("coverage", *CHOSEN, "--json"),
    ("verify", *CHOSEN, "--json"),
    ("verify", *CHOSEN, "--repair", "--json"),
    ("doctor", "--json"),
    ("plan", *CHOSEN, "--json"),
    ("cleanup", "--dry-run"),
)
KILLED_SHARE = 0.2
"""Of the other commands; the preflight is spared, as its canary would stay, which is nobody's to take away."""
SCRAPE_S = 0.2
"""A browser and a scraper ask once a second; five times as often is no other thing, and more of it."""
SETTLES_WITHIN_S = 45.0
AGREES_WITHIN_S = 15.0
ANSWERS_WITHIN_S = 30.0


class Onlookers:
    """Somebody who has the page open, and a scraper; both come back after the run that they look at was replaced.

    Attributes:
        looks: how often an answer was had.
        troubles: what should not have been seen.
    """

    def __init__(self, address: str) -> None:
        self.looks = 0
        self.troubles: list[str] = []
        self._url = f"http://{address}"

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """They look while the block runs."""
        async with aiohttp.ClientSession() as session:
            paths = ("/metrics", "/", "/live", "/readyz")
            looking = [asyncio.create_task(self._look(session, path), name=f"look at {path}") for path in paths]
            try:
                yield
            finally:
                for task in looking:
                    task.cancel()
                await asyncio.wait(looking)
        for task in looking:
            if not task.cancelled():
                task.result()

    async def _look(self, session: aiohttp.ClientSession, path: str) -> None:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):  # it was just killed, or has just begun
                async with session.get(self._url + path, timeout=aiohttp.ClientTimeout(ANSWERS_WITHIN_S)) as answer:
                    await answer.read()
                    self.looks += 1
                    if answer.status >= 500 and path != "/readyz":
                        self.troubles.append(f"{path} was answered {answer.status}")
            await asyncio.sleep(SCRAPE_S)

    async def text(self, path: str) -> str:
        """One answer."""
        async with aiohttp.ClientSession() as session, session.get(self._url + path) as answer:
            return await answer.text()


class WatchedSoak:
    """Random kills under load, beside onlookers and other commands, while the source replaces files."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.kills = self.commands = self.looks = 0

    async def run(self, kills: int, commands_a_kill: int = 2) -> str:
        """Kill ``kills`` times; what was played, in words.

        Raises:
            ViolationError: a guarantee did not hold.
        """
        async with a_world() as world:
            world.settings = {"polyb2_lease_seconds": 1.0, "polyb2_part_tries": 10}
            world.box.source.inject(Fault("get", Drip(8 * MIB), times=0))
            for key in FILES:
                world.publish(key, InMemory(os.urandom(20_000)))
            with reserved_ports(1) as (port,):
                await self._play(world, f"127.0.0.1:{port}", kills, commands_a_kill)
            world.box.source.clear_faults()
            await recover_all(world)
        return f"{self.kills} kills, {self.commands} other commands, {self.looks} answers of page and metrics"

    async def _play(self, world: World, address: str, kills: int, commands: int) -> None:
        onlookers = Onlookers(address)
        run = await self._start(world, address)
        try:
            async with onlookers.looking():
                while self.kills < kills:
                    run = await self._kill_under_load(world, run, address, commands)
                    await self._settled(world, run)
                    await agree(world, onlookers)
                    must(not onlookers.troubles, f"kill {self.kills}: {onlookers.troubles[:3]}")
        finally:
            await killed(run)
            await settled(world)
        self.looks += onlookers.looks

    async def _start(self, world: World, address: str) -> asyncio.subprocess.Process:
        words = ("run", "--watch", "--yes", "--concurrency", str(STREAMS))
        return await start(world, *words, POLYB2_HTTP_ADDR=address, POLYB2_DATASETS=DATASETS)

    async def _kill_under_load(
        self, world: World, run: asyncio.subprocess.Process, address: str, commands: int
    ) -> asyncio.subprocess.Process:
        """Publish, list, and let others write beside the run; kill it in the middle of that, and start its successor."""
        world.publish(LARGE, GeneratedGzip((12 + self.kills % 5) * MIB, seed=self.kills))
        world.replace(SMALL)
        for key in self.chance.sample(FILES, 6):
            world.publish(key, InMemory(os.urandom(20_000)))
        others = asyncio.create_task(self._others(world, [LISTS, *self.chance.choices(OTHERS, k=commands - 1)]))
        # Every other kill falls into the middle of what the others write, the rest come when the run went on beside them.
        wait_s = self.chance.uniform(0.5, 3.0) if self.kills % 2 else SETTLES_WITHIN_S
        await asyncio.wait([others], timeout=wait_s)
        must(run.returncode is None, f"the run ended by itself with {run.returncode}")
        must(not (held := deleted_files(world.folder / "ledger.db")), f"deleted files of the ledger are held: {held}")
        await killed(run)
        self.kills += 1
        successor = await self._start(world, address)
        try:
            await others
        except BaseException:
            await killed(successor)
            raise
        return successor

    async def _others(self, world: World, commands: Iterable[tuple[str, ...]]) -> None:
        """One after the other; some are killed as well."""
        for words in commands:
            with tempfile.TemporaryFile() as told:
                process = await start(world, *words, told=told, POLYB2_DATASETS=DATASETS)
                if words[0] != "doctor" and self.chance.random() < KILLED_SHARE:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), self.chance.uniform(0.3, 1.5))
                    await killed(process)
                code = await process.wait()
                told.seek(0)
                said = told.read().decode(errors="replace")[-500:]
            must(code in {0, 3, -signal.SIGKILL}, f"{' '.join(words)} ended with {code}: {said}")
            self.commands += 1

    async def _settled(self, world: World, run: asyncio.subprocess.Process) -> None:
        """Until the run has nothing left to do."""
        ledger = world.folder / "ledger.db"
        try:
            async with asyncio.timeout(SETTLES_WITHIN_S):
                while not (found := counted(ledger)) or any(status != Status.COMPLETED for _, status in found):
                    must(run.returncode is None, f"the run ended by itself with {run.returncode}")
                    must(not (held := deleted_files(ledger)), f"deleted files of the ledger are held: {held}")
                    await asyncio.sleep(0.2)
        except TimeoutError:
            must(False, f"kill {self.kills}: the run does not come to an end: {counted(ledger)}")


async def agree(world: World, onlookers: Onlookers) -> None:
    """The ledger is whole, nobody holds a file of it that is gone, and all who tell of it tell the same.

    Raises:
        ViolationError: it is not so.
    """
    ledger = world.folder / "ledger.db"
    must(not (held := deleted_files(ledger)), f"deleted files of the ledger are held: {held}")
    must(not (damage := damage_of(ledger)), damage)
    told: dict[str, Counts] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(AGREES_WITHIN_S):
            while len(told) < 2 or len({frozenset(counts.items()) for counts in told.values()}) > 1:
                with suppress(aiohttp.ClientError):  # the run has just begun
                    told = await _tell(world, onlookers)
                await asyncio.sleep(0.1)
    different = {who: dict(counts) for who, counts in told.items() if counts != told["a recount"]}
    must(told and not different, f"a recount says {dict(counted(ledger))}, but {different}")


async def _tell(world: World, onlookers: Onlookers) -> dict[str, Counts]:
    """Everybody's counts."""
    return {
        "a recount": counted(world.folder / "ledger.db"),
        "the kept counts": kept(world.folder / "ledger.db"),
        "/metrics": of_metrics(await onlookers.text("/metrics")),
        "the page": of_page(await onlookers.text("/live")),
        "status": await of_status(world),
    }
