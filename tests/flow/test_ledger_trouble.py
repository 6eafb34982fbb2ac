"""A ledger that another process holds, or that has no room: the run waits, says so, loses nothing and goes on."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from polyb2.core.errors import LedgerBusyError
from polyb2.core.selection import EVERYTHING
from polyb2.flow.discover.consent import discover
from polyb2.flow.discover.findings import Report
from polyb2.ledger import busy_retry
from polyb2.ledger.sqlite import lock, store
from polyb2.ledger.sqlite import open as opening
from polyb2.sandbox import Call, Fault, GeneratedGzip
from tests.conftest import MIB, QUOTES, Bench, Gate, key, until

SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)


@pytest.fixture(autouse=True)
def _short_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lock, opening):
        monkeypatch.setattr(module, "BUSY_TRY_S", 0.05)
    monkeypatch.setattr(busy_retry, "_PAUSE_S", 0.05)
    # Reads that succeed while a write waits do not end the trouble.
    monkeypatch.setattr(store, "WATCH_EVERY_S", 0.05)


@contextmanager
def held(bench: Bench) -> Iterator[None]:
    """Hold the ledger as another process that writes, or hangs."""
    path = bench.folder / "ledger.db"
    with path.with_name("ledger.db.lock").open("w") as taken, closing(sqlite3.connect(path)) as other:
        fcntl.flock(taken, fcntl.LOCK_EX)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()


async def test_a_run_waits_for_a_ledger_that_is_held_and_says_so_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB))
    await bench.discover()

    async def hold() -> None:
        with held(bench):
            await until(lambda: any("waiting: the ledger is busy" in line for line in caplog.messages))
            await asyncio.sleep(0.5)

    holding: list[asyncio.Task[None]] = []
    begin = Call(lambda: holding.append(asyncio.create_task(hold())), "after")
    bench.box.target.inject(Fault("upload_part", begin, part=2))
    with caplog.at_level(logging.INFO, "polyb2"):
        result = await bench.run()
    await holding[0]
    assert result.outcome.completed == 2
    assert sum("waiting" in line for line in caplog.messages) == 1
    assert sum("the ledger can be used again" in line for line in caplog.messages) == 1
    assert sorted(item.part or 0 for item in bench.box.target.requests if item.operation == "upload_part") == [
        1,
        2,
        3,
        4,
    ]


async def test_a_ledger_that_stays_held_ends_the_run(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    with ExitStack() as stack:
        bench.box.source.inject(Fault("get", Call(lambda: stack.enter_context(held(bench)))))
        with pytest.raises(LedgerBusyError, match="look for another polyb2"):
            await asyncio.wait_for(bench.run(polyb2_give_up=0.5), 20)


async def test_a_listing_is_done_again_if_the_ledger_lost_what_it_had_confirmed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.box.source.put(SMALL, b"x")
    listings = 0

    async def listing(*arguments: Any) -> Report:
        nonlocal listings
        report = await discover(*arguments)
        listings += 1
        return report

    monkeypatch.setattr("polyb2.engine.discover", listing)
    monkeypatch.setattr(store.SqliteStore, "losses", property(lambda _store: min(listings, 1)))
    result = await bench.run(EVERYTHING, polyb2_lease_seconds=1)
    assert (listings, result.outcome.completed) == (2, 1)


async def test_a_stop_does_not_wait_for_a_ledger_for_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyb2.engine.STOPPING_LEDGER_S", 0.2)
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    gate = Gate()
    bench.box.target.inject(Fault("put", Call(gate.hold)))
    running = asyncio.create_task(bench.run(polyb2_drain_seconds=0.0))
    await gate.reached.wait()
    with held(bench):
        os.kill(os.getpid(), signal.SIGTERM)
        result = await asyncio.wait_for(running, 10)
        gate.open()
    assert result.signal == signal.SIGTERM
    assert (await bench.row(SMALL))["status"] == "processing"
    assert (await bench.run()).outcome.completed == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process is set by prlimit")
async def test_a_process_whose_files_cannot_grow_waits_for_room_and_goes_on(bench: Bench) -> None:
    for day in range(1, 29):
        bench.box.source.put(key(f"2024-02-{day:02}"), b"x")
    await bench.discover()
    gate = Gate()
    bench.box.target.inject(Fault("put", Call(gate.hold), skip=3))
    process = await bench.start("run", "--concurrency", "2", LOG_LEVEL="INFO")
    await gate.reached.wait()
    assert process.stderr is not None
    _, before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, before))
    gate.open()
    said = ""
    while "waiting: the ledger cannot be used" not in said:
        said = (await process.stderr.readline()).decode()
        assert said, "it ended"
    done = bench.box.target.count("put")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (before, before))
    _, rest = await process.communicate()
    assert process.returncode == 0, rest.decode()
    assert rest.decode().count("the ledger can be used again") == 1
    assert done < 28
    assert bench.box.target.count("put") == 28, "a file was sent twice, or not at all"
