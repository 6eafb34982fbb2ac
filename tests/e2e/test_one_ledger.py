"""One ledger for all who use it: a run with its page, every other command beside it, and whoever takes it away."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from polyb2.sandbox import Drip, Fault, GeneratedGzip
from tests.conftest import DAY_AGGS, MIB, Bench, key
from tests.ledger.places import read_sql
from tests.ledger.sqlite.locks import held_locks
from tests.web.scene import free_port

DAYS = ("2024-01-02", "2024-01-03", "2024-01-04")
NEW_DAY = "2024-01-05"
PAGES = (
    "/", "/live", "/metrics", "/healthz", "/readyz", f"/file?key={quote(key(DAYS[0]))}", f"/file/{DAY_AGGS}/{DAYS[0]}",
    f"/?dataset={DAY_AGGS}&year=2024", "/page.css", "/nothing",
)  # fmt: skip
SELECTED = ("--dataset", DAY_AGGS)
COMMANDS = (
    ("discover", "--dates", f"{DAYS[0]}..{NEW_DAY}", *SELECTED),
    ("run",),
    ("retry", key(DAYS[0])),
    ("unqueue", key(DAYS[1])),
    ("status", "--json"),
    ("files", "--json"),
    ("coverage", "--json"),
    ("datasets", "--json"),
    ("doctor",),
    ("verify",),
    ("cleanup",),
    ("plan", "--dates", NEW_DAY, *SELECTED),
    ("rebind",),
)
AT_REST = ["-shm READ 128 128", "database READ 1073741826 1073742335"]
"""Locks of a connection in WAL mode between transactions (https://sqlite.org/walformat.html#locks)."""
WRITING = {"discover", "run", "retry", "unqueue", "doctor"}


@dataclass
class Watching:
    """A ``run --watch`` in a process of its own, and its page."""

    bench: Bench
    process: asyncio.subprocess.Process
    url: str
    session: aiohttp.ClientSession

    @property
    def path(self) -> Path:
        return self.bench.folder / "ledger.db"

    async def get(self, page: str) -> tuple[int, str]:
        try:
            async with self.session.get(self.url + page) as response:
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def waits_for(self, page: str, status: int) -> str:
        while (answer := await self.get(page))[0] != status:
            await asyncio.sleep(0.02)
        return answer[1]

    async def rests(self, after: object) -> None:
        """See that the process has the locks of a connection at rest, which never come back if they were dropped.

        A transaction of its own may hold more.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not set(AT_REST) <= set(held_locks(self.path, self.process.pid)):
                    await asyncio.sleep(0.01)
        held = held_locks(self.path, self.process.pid)
        assert set(AT_REST) <= set(held), (after, held)

    def deleted_files(self) -> list[str]:
        """What the process has open of the ledger without a name."""
        open_files = [str(entry.readlink()) for entry in Path(f"/proc/{self.process.pid}/fd").iterdir()]
        return [name for name in open_files if name.startswith(str(self.path)) and name.endswith("(deleted)")]

    async def counts_of_page(self) -> dict[str, int]:
        found = re.findall(r'polyb2_queue_files\{.*status="(\w+)"\} (\d+)', (await self.get("/metrics"))[1])
        return {status: int(count) for status, count in found if int(count)}


@asynccontextmanager
async def watching(bench: Bench, **extra: str) -> AsyncIterator[Watching]:
    address = f"127.0.0.1:{free_port()}"
    given = {"POLYB2_HTTP_ADDR": address, "POLYB2_DATASETS": DAY_AGGS} | extra
    process = await bench.start("run", "--watch", **given)
    try:
        async with aiohttp.ClientSession() as session:
            up = Watching(bench, process, f"http://{address}", session)
            await up.waits_for("/healthz", 200)
            yield up
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def counts_of_status(bench: Bench) -> dict[str, int]:
    status = (await bench.cli("status", "--json")).json()
    return {name: found["files"] for name, found in status["by_status"].items() if found["files"]}


def counts_of_file(path: Path) -> dict[str, int]:
    return {row["status"]: row["n"] for row in read_sql(path, "SELECT status, count(*) AS n FROM files GROUP BY 1")}


async def all_at_once(bench: Bench, commands: Sequence[tuple[str, ...]] = COMMANDS) -> None:
    ended = await asyncio.gather(*(bench.cli(*command, POLYB2_DATASETS=DAY_AGGS) for command in commands))
    assert [(command, one.err) for command, one in zip(commands, ended, strict=True) if one.code] == []


async def test_whoever_looks_or_works_beside_it_leaves_the_run_its_ledger(bench: Bench) -> None:
    """A page view dropped the locks of the run; the next command took itself for the last user and removed the -wal."""
    for day in (*DAYS, NEW_DAY):
        bench.box.source.put(key(day), b"x" * 1000)
    await bench.discover()
    async with watching(bench) as run:
        while await counts_of_status(bench) != {"completed": 4}:
            await asyncio.sleep(0.1)
        await run.get("/")  # the page's connection stays open from now on
        await run.rests("/")
        for page in PAGES:
            assert (await run.get(page))[0] in {200, 404}
            await run.rests(page)
        for command in COMMANDS:
            ended = await bench.cli(*command, POLYB2_DATASETS=DAY_AGGS)
            assert ended.code == 0, (command, ended.err)
            await run.get("/metrics")
            await run.rests(command)
            assert run.deleted_files() == []
        await all_at_once(bench)
        await run.rests(COMMANDS)
        for another in ("2024-01-08", "2024-01-09"):
            bench.box.source.put(key(another), b"y" * 1000)
            await bench.cli("discover", "--dates", another, *SELECTED)
        while await counts_of_status(bench) != {"completed": 6}:
            await asyncio.sleep(0.1)
        while await run.counts_of_page() != {"completed": 6}:
            await asyncio.sleep(0.1)
        run.process.send_signal(signal.SIGTERM)
        assert await run.process.wait() == 0
    assert read_sql(run.path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert counts_of_file(run.path) == await counts_of_status(bench) == {"completed": 6}


async def test_commands_that_write_at_once_beside_a_run_that_is_killed(bench: Bench) -> None:
    for day in (*DAYS, NEW_DAY):
        bench.box.source.put(key(day), b"x" * 1000)
    await bench.discover()
    async with watching(bench) as run:
        await asyncio.gather(*(run.get(page) for page in PAGES))
        ended = await asyncio.gather(*(bench.cli(*command, POLYB2_DATASETS=DAY_AGGS) for command in COMMANDS))
        assert [
            (command, one.err) for command, one in zip(COMMANDS, ended, strict=True) if one.code not in {0, 3}
        ] == []
        assert run.deleted_files() == []
        run.process.kill()
        await run.process.wait()
    assert read_sql(run.path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert (await bench.cli("run")).code == 0
    assert counts_of_file(run.path) == await counts_of_status(bench)
    assert sum(counts_of_file(run.path).values()) == 4


@pytest.mark.parametrize("gone", ["removed", "replaced"])
async def test_a_run_whose_ledger_goes_says_so_and_stops(bench: Bench, gone: str) -> None:
    """A file is on its way all the while."""
    large = key(DAYS[0])
    bench.box.source.put(large, GeneratedGzip(20 * MIB))
    await bench.discover()
    bench.box.source.inject(Fault("get", Drip(10_000), times=0))
    async with watching(bench) as run:
        while bench.box.source.in_flight == 0:
            await asyncio.sleep(0.02)
        files = sorted(bench.folder.glob("ledger.db*"))
        for file in files:
            kept = file.read_bytes()
            file.unlink()
            if gone == "replaced" and file.name == "ledger.db":
                file.write_bytes(kept)
        left = {file.name: file.read_bytes() for file in bench.folder.glob("ledger.db*")}
        async with asyncio.timeout(8):
            reasons = json.loads(await run.waits_for("/readyz", 503))["reasons"]
            assert "the ledger is gone" in reasons[0]
            assert gone in reasons[0]
            assert await run.process.wait() == 1
        assert run.process.stderr is not None
        said = (await run.process.stderr.read()).decode()
    last = said.splitlines()[-1]
    assert "the ledger is gone" in last
    assert "polyb2 discover adopts what is in the bucket" in last
    assert {file.name: file.read_bytes() for file in bench.folder.glob("ledger.db*")} == left


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_the_loss_is_said_by_a_run_that_is_told_to_stop(bench: Bench, is_noticed: bool) -> None:
    bench.box.source.put(key(DAYS[0]), b"x")
    await bench.discover()
    async with watching(bench) as run:
        # A write that begins before the loss is noticed may make the lock again.
        while await run.counts_of_page() != {"completed": 1}:
            await asyncio.sleep(0.02)
        for file in bench.folder.glob("ledger.db*"):
            file.unlink()
        if is_noticed:
            await run.waits_for("/readyz", 503)
        run.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(8):
            _out, err = await run.process.communicate()
        assert run.process.returncode == 1
        assert b"the ledger is gone" in err.splitlines()[-1]
        assert list(bench.folder.glob("ledger.db*")) == []


async def test_silent_connections_take_nothing_from_the_run(bench: Bench) -> None:
    """1,100 of them, half with half a request, on a process that may have 256 descriptors."""
    bench.box.source.put(key(DAYS[0]), b"x" * 1000)
    async with watching(bench, POLYB2_LEASE_SECONDS="2s") as run:
        await asyncio.create_subprocess_exec("prlimit", f"--pid={run.process.pid}", "--nofile=256:256")
        host, port = run.url.removeprefix("http://").split(":")
        silent = [await _silent(host, int(port), number) for number in range(1100)]
        try:
            assert len(list(Path(f"/proc/{run.process.pid}/fd").iterdir())) < 128
            assert (await run.get("/healthz"))[0] == 200
            assert (await bench.cli("discover", "--dates", DAYS[0], *SELECTED)).code == 0
            while await counts_of_status(bench) != {"completed": 1}:
                await asyncio.sleep(0.1)
            assert "polyb2_lease_losses_total 0.0" in (await run.get("/metrics"))[1]
        finally:
            for one in silent:
                one.close()
        run.process.send_signal(signal.SIGTERM)
        _out, err = await run.process.communicate()
        assert run.process.returncode == 0
        assert len(err.splitlines()) < 20, err


async def _silent(host: str, port: int, number: int) -> socket.socket:
    one = socket.socket()
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, (host, port))
    if number % 2:
        one.send(b"GET / HTTP/1.1\r\nHost: loc")
    return one


async def test_status_names_the_place_where_no_ledger_is(bench: Bench) -> None:
    ended = await bench.cli("status")
    assert (ended.code, str(bench.folder / "ledger.db") in ended.out) == (0, True)
    assert list(bench.folder.iterdir()) == []
