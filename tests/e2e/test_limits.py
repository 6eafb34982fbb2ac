"""What is configured as a limit limits, and what is promised as a time holds: through the whole program."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyb2.core.selection import EVERYTHING
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Filter
from polyb2.ledger.sqlite.store import SqliteStore
from polyb2.ledger.store import Transaction
from polyb2.sandbox import Call, Delay, Fault, GeneratedGzip
from polyb2.sandbox.server import SandboxServer
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, Gate, key, until, url_of
from tests.e2e.test_figures import _found

LEASE_S = 2
TAKEOVER_S = 5


async def test_a_bandwidth_limit_is_kept_and_used(bench: Bench) -> None:
    large = key("2024-01-02", QUOTES)
    bench.box.source.put(large, GeneratedGzip(12 * MIB))
    await bench.discover()
    began_s = time.monotonic()
    ended = await bench.cli("run", "--max-bandwidth", "8M", POLYB2_PART_SIZE="5MiB")
    assert ended.code == 0, ended.err
    bench.assert_mirrored(large)
    taken_s = bench.box.target.requests[-1].when_s - began_s
    at_least_s = len(bench.original(large)) / 8e6 - 0.2
    assert at_least_s < taken_s < 3 * at_least_s + 2


@pytest.mark.parametrize("side", ["source", "target"])
async def test_requests_a_second_are_kept_on_each_side(bench: Bench, side: str) -> None:
    for day in range(1, 22):
        bench.box.source.put(key(f"2024-01-{day:02}"), b"x")
    await bench.discover()
    server: SandboxServer = bench.box.source if side == "source" else bench.box.target
    before = len(server.requests)
    limit: dict[str, Any] = {f"polyb2_{'source' if side == 'source' else 'b2'}_rps": 20}
    await bench.run(**limit)
    moments = [item.when_s for item in server.requests][before:]
    assert len(moments) >= 21
    # Each is noted when it was answered; the first may have waited for a connection.
    assert moments[-1] - moments[0] >= (len(moments) - 1) / 20 - 0.15


@pytest.mark.parametrize("side", ["source", "target"])
async def test_two_runs_share_the_requests_a_second(bench: Bench, side: str) -> None:
    """One begins alone, with all of them; the other joins, and goes on alone when the first has ended."""
    per_second, joins_s = 40, 0.5
    for number in range(120):
        bench.box.source.put(key(f"2024-{number // 20 + 1:02}-{number % 20 + 1:02}"), b"x")
    await bench.discover()
    server: SandboxServer = bench.box.source if side == "source" else bench.box.target
    before = len(server.requests)
    limit: dict[str, Any] = {f"polyb2_{'source' if side == 'source' else 'b2'}_rps": per_second}
    given: dict[str, Any] = {**limit, "polyb2_lease_seconds": 1, "polyb2_concurrency": 4}
    first = asyncio.create_task(bench.run(limit=50, worker_id="first", **given))
    await asyncio.sleep(joins_s)
    second = await bench.run(worker_id="second", **given)
    assert ((await first).outcome.completed, second.outcome.completed) == (50, 70)
    moments = [item.when_s for item in server.requests][before:]
    within = [sum(begin <= moment < begin + 1 for moment in moments) for begin in moments]
    # Beside the twentieth, each may be one turn late and catch up, and answers take a while.
    assert max(within) <= 1.05 * per_second + 4
    # What the first does not use any more is used by the second: as fast as one alone, but for the renewals in between.
    assert moments[-1] - moments[0] < len(moments) / per_second + 1.5


async def test_two_thousand_small_files_take_less_than_a_minute(bench: Bench) -> None:
    for number in range(2000):
        bench.box.source.put(key(f"20{number // 300:02}-{number % 12 + 1:02}-{number % 25 + 1:02}"), os.urandom(500))
    await bench.discover()
    count = len(bench.box.source.keys())
    began_s = time.monotonic()
    ended = await bench.cli("run", "--concurrency", "32", "--quiet")
    assert ended.code == 0, ended.err
    assert bench.box.target.count("put") == count
    assert (time.monotonic() - began_s) * 2000 / count < 60


async def test_what_a_dead_runner_left_is_taken_over_soon_after_its_lease(bench: Bench) -> None:
    small = key("2024-01-02")
    bench.box.source.put(small, b"x")
    await bench.discover()
    extra = {"POLYB2_LEASE_SECONDS": str(LEASE_S)}
    killed = await bench.cli("run", POLYB2_FAILPOINTS="ledger.claim.after=kill", **extra)
    assert killed.code == -signal.SIGKILL
    died_s = time.monotonic()
    ended = await bench.cli("run", **extra)
    assert ended.code == 0, ended.err
    taken_over_s = bench.box.target.requests[-1].when_s - died_s
    assert taken_over_s < LEASE_S + TAKEOVER_S
    assert (await bench.row(small))["attempt"] == 2


async def test_workers_of_a_sync_start_while_the_listing_goes_on(bench: Bench) -> None:
    """Where a yes was given; else the whole plan is looked at first, as it may be too large."""
    for month in range(1, 13):
        bench.box.source.put(key(f"2024-{month:02}-02"), b"x")
    bench.box.source.inject(Fault("list", Delay(0.2), times=0))
    ended = await bench.cli("sync", "--dates", "2024-01-01..2024-12-31", "--dataset", DAY_AGGS, "--yes")
    assert ended.code == 0, ended.err
    assert bench.box.target.count("put") == 12
    first_put_s = next(item.when_s for item in bench.box.target.requests if item.operation == "put")
    lists_s = [item.when_s for item in bench.box.source.requests if item.operation == "list"]
    assert first_put_s < lists_s[6]


async def test_an_address_in_use_is_a_warning(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    await bench.discover()
    ended = await bench.cli("run", POLYB2_HTTP_ADDR=f"127.0.0.1:{bench.box.source.port}")
    assert ended.code == 0
    assert "POLYB2_HTTP_ADDR" in ended.err
    bench.assert_mirrored(key("2024-01-02"))


async def test_readers_hold_short_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU time of the reading thread: what it waits for on a busy machine is not the reader's doing."""
    ledger = await open_ledger(url_of(tmp_path / "ledger.db"))
    for first in range(0, 20_000, 1000):
        await ledger.record([_found(number) for number in range(first, first + 1000)], "")
    await ledger.close()
    took_s: list[float] = []
    read: Callable[..., object] = SqliteStore._read

    def timed(store: SqliteStore, connection: object, work: Callable[[Transaction], object]) -> object:
        began_s = time.thread_time()
        try:
            return read(store, connection, work)
        finally:
            took_s.append(time.thread_time() - began_s)

    monkeypatch.setattr(SqliteStore, "_read", timed)
    slowest_s = []
    reader = await open_ledger(url_of(tmp_path / "ledger.db"), read_only=True)
    try:
        for _ in range(3):  # caches that others empty cost processor time as well
            took_s.clear()
            await reader.status()
            assert len([row async for row in reader.files(EVERYTHING, Filter())]) == 20_000
            await reader.calendar("us_stocks_sip/day_aggs_v1", 1955)
            assert len(took_s) > 20, "one long transaction"
            slowest_s.append(max(took_s))
    finally:
        await reader.close()
    assert min(slowest_s) < 0.05


async def test_discover_status_and_files_work_beside_a_run(bench: Bench) -> None:
    for day in range(1, 29):
        bench.box.source.put(key(f"2024-01-{day:02}"), os.urandom(2000))
    await bench.discover()
    gate = Gate()
    bench.box.source.inject(Fault("get", Call(gate.hold), times=0, skip=2))
    process = await bench.start("run", "--concurrency", "2")
    await until(lambda: bench.box.target.count("put") >= 2)
    bench.box.source.put(key("2024-02-01"), b"found meanwhile")
    commands = (("status", "--json"), ("files", "--json"), ("discover", "--historical", "--dataset", "*/*"))
    for ended in await asyncio.gather(*(bench.cli(*words) for words in commands)):
        assert ended.code == 0, ended.err
    gate.open()
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert len(bench.box.target.keys()) == 29
    assert bench.box.target.count("put") == 29
