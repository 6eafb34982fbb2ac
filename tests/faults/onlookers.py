"""A soak that is looked at: the page is open and scraped all the while, and other commands write beside the run, with kills.

After each kill the next run goes on beside the same onlookers. Once it rests, the ledger is whole, and everybody tells the
same: ``status``, ``/metrics``, the page, and a recount of the rows.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing, suppress
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from polyb2.core.status import Status
from polyb2.sandbox import Drip, Fault, GeneratedGzip
from polyb2.sandbox.objects import InMemory
from tests.daemons import reserved_ports
from tests.faults.death import STREAMS, killed, recover_all, settled, start
from tests.faults.watch import must
from tests.faults.world import LARGE, MIB, SMALL, World, a_world

Counts = Counter[tuple[str, str]]
"""Files by dataset and status, as somebody tells them; zeros left out."""
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
_COUNT = "SELECT dataset, status, count(*) FROM files GROUP BY dataset, status"
_KEPT = "SELECT dataset, status, files FROM counts WHERE files"


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
    with closing(_reader(ledger)) as connection:
        kept = connection.execute(_KEPT).fetchall()
    told: dict[str, Counts] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(AGREES_WITHIN_S):
            while len(told) < 2 or len({frozenset(counts.items()) for counts in told.values()}) > 1:
                with suppress(aiohttp.ClientError):  # the run has just begun
                    told = await _tell(world, onlookers, kept)
                await asyncio.sleep(0.1)
    different = {who: dict(counts) for who, counts in told.items() if counts != told["a recount"]}
    must(told and not different, f"a recount says {dict(counted(ledger))}, but {different}")


async def _tell(world: World, onlookers: Onlookers, kept: list[tuple[str, str, int]]) -> dict[str, Counts]:
    """Everybody's counts."""
    return {
        "a recount": counted(world.folder / "ledger.db"),
        "the kept counts": Counter({(dataset, status): files for dataset, status, files in kept}),
        "/metrics": of_metrics(await onlookers.text("/metrics")),
        "the page": of_page(await onlookers.text("/live")),
        "status": await _of_status(world),
    }


def _reader(ledger: Path) -> sqlite3.Connection:
    """A connection that neither writes nor checkpoints."""
    return sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=5)


def damage_of(ledger: Path) -> str:
    """What SQLite finds wrong with a ledger, in words; nothing where it is whole."""
    with closing(_reader(ledger)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        lacking = connection.execute("PRAGMA foreign_key_check").fetchall()
    return "the ledger lacks rows" if lacking else "" if found == [("ok",)] else f"the ledger is damaged: {found[:3]}"


def counted(ledger: Path) -> Counts:
    """What is in the ledger's rows."""
    with closing(_reader(ledger)) as connection, suppress(sqlite3.OperationalError):  # no tables yet
        return Counter({(dataset, status): files for dataset, status, files in connection.execute(_COUNT)})
    return Counter()


def of_metrics(text: str) -> Counts:
    """What ``/metrics`` tells."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return +Counter(
        {(each.labels["dataset"], each.labels["status"]): int(each.value) for each in samples
         if each.name == "polyb2_queue_files"}
    )  # fmt: skip


def of_page(text: str) -> Counts:
    """What the table of the queue tells; a status that no file has may have no column."""
    table = _Table()
    table.feed(text)
    heads, *rows = table.rows
    words = [head.split(" ", 1)[-1].replace(" ", "_") for head in heads]
    return +Counter(
        {
            (row[0].replace("\u200b", ""), word): int(cell.replace(",", ""))
            for row in rows
            for word, cell in zip(words, row, strict=True)
            if word in set(Status) and row[0] != "All"
        }
    )


async def _of_status(world: World) -> Counts:
    """What a process of its own tells."""
    with tempfile.TemporaryFile() as told:
        process = await start(world, "status", "--json", out=told)
        must(await process.wait() == 0, "status failed")
        told.seek(0)
        datasets = json.load(told)["datasets"]
    return +Counter(
        {(each["dataset"], status): tally["files"] for each in datasets for status, tally in each["by_status"].items()}
    )


class _Table(HTMLParser):
    """The cells of the first table of a page, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._within = self._done = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._done:
            return
        if tag == "tr":
            self.rows.append([])
        elif tag in {"th", "td"}:
            self.rows[-1].append("")
            self._within = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"}:
            self._within = False
        self._done = self._done or tag == "table"

    def handle_data(self, data: str) -> None:
        if self._within and not self._done:
            self.rows[-1][-1] += data


def deleted_files(ledger: Path) -> list[str]:
    """Files of a ledger that live processes have open though their names are gone: process and name."""
    held = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has just ended, or is another user's
                for descriptor in (entry / "fd").iterdir():
                    with suppress(OSError):
                        name = os.readlink(descriptor)  # noqa: PTH115 - the text is no path
                        if name.startswith(str(ledger)) and name.endswith("(deleted)"):
                            held.append(f"{entry.name} {name}")
    return held
