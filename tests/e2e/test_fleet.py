"""What `docker compose --profile fleet up --scale worker=4` does, by hand: PostgreSQL, four workers, and two of them die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, LiteralString

import pytest

from polyb2.sandbox import Drip, Fault, GeneratedGzip
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key
from tests.postgres import PostgresServer, postgres_missing

SMALL = [key(f"2024-02-{day:02}") for day in range(1, 13)]
LARGE = [key(f"2024-02-{day:02}", QUOTES) for day in range(1, 5)]
PART_MIB, PARTS, STREAMS = 5, 4, 2
WORKERS, KILLED = 4, 2
IN_THE_MIDDLE = "SELECT DISTINCT worker_id FROM polyb2.files WHERE status = 'processing' AND parts_done > 0"
COMPLETED = "SELECT key FROM polyb2.files WHERE status = 'completed'"


class Fleet:
    """Workers of one ledger, each a process with a name of its own."""

    def __init__(self, bench: Bench, server: PostgresServer) -> None:
        self._bench = bench
        self._looking = server.connect()
        self._settings = {
            "DATABASE_URL": server.url(),
            "POLYB2_DATASETS": f"{DAY_AGGS},{QUOTES}",
            "POLYB2_FAKE_NOW": "2024-02-29T12:00:00+00:00",
            "POLYB2_PART_SIZE": f"{PART_MIB}MiB",
            "POLYB2_CONCURRENCY": str(STREAMS),
            "POLYB2_LEASE_SECONDS": "2",
        }
        self.workers: dict[str, asyncio.subprocess.Process] = {}

    async def command(self, *words: str) -> Any:
        """The JSON that a command prints."""
        ended = await self._bench.cli(*words, "--json", **self._settings)
        assert ended.code == 0, ended.err
        return ended.json()

    async def start(self, name: str) -> None:
        self.workers[name] = await self._bench.start("run", "--watch", WORKER_ID=name, **self._settings)

    async def waits_for_rows(self, query: LiteralString, count: int) -> list[str]:
        """What the first column of the query holds, once that many rows are found."""
        while len(found := self._looking.execute(query).fetchall()) < count:
            await asyncio.sleep(0.02)
        return [str(next(iter(row.values()))) for row in found]

    def close(self) -> None:
        """Kill what is left: whatever ends the test, a watch would go on for ever."""
        self._looking.close()
        for process in self.workers.values():
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    async def kill(self, name: str) -> None:
        process = self.workers.pop(name)
        process.kill()
        await process.wait()

    async def stop(self) -> dict[str, int | None]:
        """SIGTERM to all at once; their exit codes."""
        for process in self.workers.values():
            process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.communicate() for process in self.workers.values()))
        return {name: process.returncode for name, process in self.workers.items()}


@pytest.fixture
def fleet(bench: Bench) -> Iterator[Fleet]:
    if reason := postgres_missing():
        pytest.skip(reason)
    with PostgresServer() as server:
        found = Fleet(bench, server)
        yield found
        found.close()


async def test_a_fleet_that_loses_half_of_its_workers_mirrors_everything_once(bench: Bench, fleet: Fleet) -> None:
    for wanted in SMALL:
        bench.box.source.put(wanted, os.urandom(5000))
    for wanted in LARGE:
        bench.box.source.put(wanted, GeneratedGzip((PARTS * PART_MIB - 1) * MIB))
    slow = [bench.box.source.inject(Fault("get", Drip(8 * MIB), key=wanted, times=0)) for wanted in LARGE]
    assert (await fleet.command("discover", "--historical"))["queued"] == len(SMALL + LARGE)
    await asyncio.gather(*(fleet.start(f"worker-{number}") for number in range(1, WORKERS + 1)))
    for name in (await fleet.waits_for_rows(IN_THE_MIDDLE, KILLED))[:KILLED]:
        await fleet.kill(name)
    for fault in slow:
        fault.times = -1
    await fleet.waits_for_rows(COMPLETED, len(SMALL + LARGE))
    assert await fleet.stop() == dict.fromkeys(fleet.workers, 0)
    found = await fleet.command("verify", "--deep")
    assert (found["checked"], found["differences"]) == (len(SMALL + LARGE), [])
    for wanted in SMALL + LARGE:
        bench.assert_mirrored(wanted)
        assert len(bench.box.target.versions(wanted)) == 1, "published twice"
    bench.assert_clean()
    stored = [item for item in bench.box.target.requests if item.status == 200]
    sent = Counter((item.key, item.part) for item in stored if item.operation in {"upload_part", "put"})
    again = sum(sent.values()) - len(sent)
    assert len(sent) == len(SMALL) + len(LARGE) * PARTS
    assert again <= KILLED * STREAMS, "more was sent again than was under way in the workers that were killed"
