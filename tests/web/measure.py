"""The time and CPU of page and metrics, and their cost to the engine: ``python -m tests.web.measure [--rows N]``.

A ledger of many rows; an engine at full load in a process of its own, between servers in another; who looks is a third. In
turns nobody looks and somebody does, as one Prometheus (every 5 s) and one open page (every 2 s) would. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import make_mocked_request

from polyb2.config import Settings
from polyb2.core.keys import FileName
from polyb2.core.records import ListedObject, Mirrored
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Discovered
from polyb2.session import binding_of, open_mirror
from polyb2.web.metrics import Metrics
from polyb2.web.pages import Pages
from polyb2.web.snapshot import CALENDAR_FRESH_S, RECENT_FRESH_S, Observed, Snapshots
from tests.web.leaping import Leaping
from tests.web.scene import free_port

DATASETS = [f"us_stocks_sip/kind_{number:02}" for number in range(33)]
LAST = date(2023, 12, 29)
PENDING_SHARE = 4
WINDOW_S, WINDOWS = 8.0, 4
SCRAPE_EVERY, LOOK_EVERY = 5, 2
ROUNDS = 60
LARGE_MIB = 98_304


async def fill(ledger: Ledger, rows: int) -> None:
    """Every fourth file waits, the others are mirrored; all older than what the engine will work on."""
    batch: list[Discovered] = []
    for number in range(rows):
        name = FileName(DATASETS[number % len(DATASETS)], LAST - timedelta(days=number // len(DATASETS)))
        listed = ListedObject(name.key, 20_000 + number % 1000, f"{number:032x}", 1_700_000_000_000)
        batch.append(
            Discovered(name, listed, None if number % PENDING_SHARE == 0 else Mirrored(listed.etag, "v", "etag"))
        )
        if len(batch) == 5000 or number == rows - 1:
            await ledger.record(batch, "")
            batch = []


@dataclass
class Engine:
    """The engine under load: what it used and what it did."""

    pid: int
    path: Path

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def bytes_done(self) -> int:
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as database:
            return int(
                database.execute("SELECT total(bytes_done) FROM counts WHERE status = 'processing'").fetchone()[0]
            )


async def timed(session: aiohttp.ClientSession, url: str) -> float:
    began_s = time.perf_counter()
    async with session.get(url) as answer:
        await answer.read()
        assert answer.status == 200, url
    return (time.perf_counter() - began_s) * 1000


async def window(
    engine: Engine, session: aiohttp.ClientSession, url: str, spent: dict[str, list[float]] | None
) -> tuple[float, float]:
    """A stretch of load: bytes per second and CPU seconds per gigabyte; with somebody who looks where ``spent`` is given."""
    began_s, cpu_s, done = time.monotonic(), engine.cpu_s(), engine.bytes_done()
    for second in range(int(WINDOW_S)):
        for path, every in (("/metrics", SCRAPE_EVERY), ("/live", LOOK_EVERY)):
            if spent is not None and second % every == 0:
                spent.setdefault(path, []).append(await timed(session, url + path))
        await asyncio.sleep(max(0.0, began_s + second + 1 - time.monotonic()))
    sent = engine.bytes_done() - done
    return sent / (time.monotonic() - began_s), (engine.cpu_s() - cpu_s) * 1e9 / max(sent, 1)


async def under_load(settings: Settings, environment: dict[str, str]) -> dict[str, Any]:
    """Answers and cost while the engine works as fast as it can."""
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "polyb2",
        "run",
        "--limit",
        "1",
        env=environment | {"POLYB2_HTTP_ADDR": address},
        stderr=asyncio.subprocess.DEVNULL,
    )
    engine, url = Engine(process.pid, Path(settings.ledger.url.removeprefix("sqlite:///"))), f"http://{address}"
    spent: dict[str, list[float]] = {}
    quiet: list[tuple[float, float]] = []
    watched: list[tuple[float, float]] = []
    try:
        async with aiohttp.ClientSession() as session:
            while engine.bytes_done() == 0:
                await asyncio.sleep(0.2)
            for path in ("/metrics", "/"):
                spent[f"first {path}"] = [await timed(session, url + path)]
            for _ in range(WINDOWS):
                quiet.append(await window(engine, session, url, None))
                watched.append(await window(engine, session, url, spent))
            for path in (
                "/metrics",
                "/live",
                "/",
                f"/file/{DATASETS[0]}/{LAST}",
                f"/?dataset={DATASETS[1]}&year=2020",
                "/readyz",
            ):
                for _ in range(ROUNDS):
                    spent.setdefault(path, []).append(await timed(session, url + path))
                    await asyncio.sleep(0.35)
            assert process.returncode is None, "the load ended before the measurement did: raise LARGE_MIB"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return {
        "answers_ms": {path: figures(times) for path, times in spent.items()},
        "quiet": {"mb_per_s": middle(rate / 1e6 for rate, _ in quiet), "cpu_s_per_gb": middle(cpu for _, cpu in quiet)},
        "watched": {
            "mb_per_s": middle(rate / 1e6 for rate, _ in watched),
            "cpu_s_per_gb": middle(cpu for _, cpu in watched),
        },
    }


async def alone(settings: Settings) -> dict[str, Any]:
    """CPU time of one answer that is made anew, and of all answers a second, as a share of one core."""
    async with open_mirror(settings) as mirror:
        snapshots = Snapshots(Observed(mirror, ("*/*",), lambda: True, list))
        metrics, pages = Metrics(snapshots), Pages(snapshots)
        request = make_mocked_request("GET", "/")
        answers: dict[str, tuple[float, Callable[[], Awaitable[object]]]] = {
            "/metrics": (1.0, lambda: metrics.text("")),
            "/live": (1.0, lambda: pages.live(request)),
            "/ after a change": (CALENDAR_FRESH_S, lambda: pages.overview(request)),
            "the last days, every 30 s": (RECENT_FRESH_S, snapshots.recent.get_stale),
        }
        cost = {name: await cpu_ms(answer, fresh_s) for name, (fresh_s, answer) in answers.items()}
        await snapshots.close()
    share = cost["/metrics"] / SCRAPE_EVERY + cost["/live"] / LOOK_EVERY + cost["the last days, every 30 s"] / 30
    return {
        "cpu_ms": {name: round(value, 2) for name, value in cost.items()},
        "percent_of_a_core": round(share / 10, 3),
    }


async def cpu_ms(answer: Callable[[], Awaitable[object]], fresh_s: float) -> float:
    """Milliseconds of an answer, as soon as what is kept of the one before is too old."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Leaping)
    await answer()
    began_s = time.process_time()
    for _ in range(ROUNDS):
        loop.ahead_s += fresh_s
        await answer()
        for task in asyncio.all_tasks():
            if task.get_name() == "renewal":
                await task
    return (time.process_time() - began_s) * 1000 / ROUNDS


def figures(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    at = {"p50": len(ordered) // 2, "p95": int(len(ordered) * 0.95), "max": len(ordered) - 1}
    return {name: round(ordered[min(place, len(ordered) - 1)], 1) for name, place in at.items()} | {
        "count": len(ordered)
    }


def middle(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


@asynccontextmanager
async def servers() -> AsyncIterator[dict[str, str]]:
    """The sandbox in a process of its own; the settings that point at it."""
    words = ("-m", "polyb2.sandbox", "--hashes-only", "--large", str(LARGE_MIB))
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="polyb2-measure-") as folder:
        async with servers() as given:
            path = Path(folder) / "ledger.db"
            environment = os.environ | given | {"DATABASE_URL": f"sqlite:///{path}"}
            lower: dict[str, Any] = {name.lower(): value for name, value in given.items()}
            settings = Settings(**lower, database_url=f"sqlite:///{path}")
            ledger = await open_ledger(f"sqlite:///{path}")
            await ledger.bind(binding_of(settings))
            await fill(ledger, rows)
            await ledger.close()
            words = ("discover", "--dates", "2024-01-02", "--dataset", "us_options_opra/quotes_v1")
            queued = await asyncio.create_subprocess_exec(sys.executable, "-m", "polyb2", *words, env=environment,
                                                          stdout=asyncio.subprocess.DEVNULL)  # fmt: skip
            assert await queued.wait() == 0
            found = {
                "rows": rows,
                "alone": await alone(settings),
                "under_load": await under_load(settings, environment),
            }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=Leaping) as runner:
        runner.run(main())
