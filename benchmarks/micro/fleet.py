"""A fleet on one ledger, no bytes moved: workers, each a process, that claim and complete on 10^6 rows.

PostgreSQL has one core and the workers the other; its files are durable (fsync). SQLite beside it has no server: its writers
take turns on the workers' core.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from contextlib import ExitStack, closing
from multiprocessing.queues import Queue
from statistics import quantiles
from typing import NamedTuple

from benchmarks.micro.queue import DONE, LEASE_MS, pages
from benchmarks.processes import CLIENT_CORE, SERVER_CORE, on_core
from benchmarks.rounds import say
from benchmarks.scenarios import Options
from benchmarks.tables import table
from polyb2.ledger.open import open_ledger
from tests.postgres import PostgresServer, postgres_missing

ROWS = 1_000_000
SECONDS = 20.0
WORKERS = {"PostgreSQL": (1, 4, 16, 64), "SQLite": (1, 4)}
_HEAD = ("store", "workers", "files/s", "claim ms, median", "99th percentile", "settle ms, median", "99th percentile")
_fork = multiprocessing.get_context("fork")


class Worked(NamedTuple):
    """Milliseconds of each claim and settlement of a worker."""

    claims: list[float]
    settlements: list[float]


def fleet_ledger(options: Options) -> str:
    """Each store with one ledger, and each number of workers for so many seconds."""
    rows, seconds = max(1000, int(ROWS * options.scale)), max(2.0, SECONDS * options.scale)
    found: list[list[str]] = []
    with ExitStack() as servers:
        urls = {"SQLite": f"sqlite:///{options.folder / 'fleet.db'}"}
        if (reason := postgres_missing()) is None:
            with on_core(SERVER_CORE):
                server = servers.enter_context(PostgresServer(durable=True))
            urls["PostgreSQL"] = server.url(server.new_database())
        for store, url in sorted(urls.items()):
            say(f"  {store}: {rows:,} rows")
            asyncio.run(_fill(url, rows))
            if store == "PostgreSQL":
                with closing(server.connect(url.split("@/")[1].split("?")[0])) as connection:
                    connection.execute("VACUUM ANALYZE")
            found += [_measure(store, url, workers, seconds) for workers in WORKERS[store]]
    note = f"\n\nWithout PostgreSQL: {reason}" if reason else ""
    return f"{rows:,} rows, {seconds:.0f} s each, a file at a time.\n\n{table(_HEAD, found)}{note}"


async def _fill(url: str, rows: int) -> None:
    ledger = await open_ledger(url)
    for page in pages(rows):
        await ledger.record(page, "")
    await ledger.close()


def _measure(store: str, url: str, workers: int, seconds: float) -> list[str]:
    say(f"  {store}: {workers} workers")
    results: Queue[Worked] = _fork.Queue()
    with on_core(CLIENT_CORE):
        processes = [_fork.Process(target=_work, args=(url, seconds, results)) for _ in range(workers)]
        for process in processes:
            process.start()
        worked = [results.get() for _ in processes]
        for process in processes:
            process.join()
    claims, settlements = ([ms for one in found for ms in one] for found in zip(*worked, strict=True))
    figures = (quantiles(times, n=100) for times in (claims, settlements))
    shown = [f"{of[place]:.1f}" for of in figures for place in (49, 98)]
    return [store, str(workers), f"{len(settlements) / seconds:,.0f}", *shown]


def _work(url: str, seconds: float, results: Queue[Worked]) -> None:
    results.put(asyncio.run(_claim_and_complete(url, seconds)))


async def _claim_and_complete(url: str, seconds: float) -> Worked:
    ledger = await open_ledger(url, retry=lambda _error, _waited_s: True)
    worker = await ledger.register("benchmark", LEASE_MS)
    worked = Worked([], [])
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        began_s = time.perf_counter()
        claims = await ledger.claim_up_to(worker, 1)
        claimed_s = time.perf_counter()
        for claim in claims:
            await ledger.complete(claim, DONE, 1)
        worked.claims.append((claimed_s - began_s) * 1000)
        worked.settlements.append((time.perf_counter() - claimed_s) * 1000)
    await ledger.close()
    return worked
