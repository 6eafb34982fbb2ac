"""What polyb2 promises of memory, disk and the ledger's speed, at sizes that fit into a test run.

The bounds are the promised ones, which leaves a factor for a slow machine; the benchmarks measure.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from polyb2.core.coverage import DayState
from polyb2.core.keys import parse_key
from polyb2.core.records import ListedObject
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Discovered
from polyb2.sandbox import GeneratedGzip, Sandbox
from tests.conftest import MIB, QUOTES, Bench, key, url_of

DATASETS = ("us_stocks_sip/day_aggs_v1", "us_stocks_sip/minute_aggs_v1", "us_options_opra/day_aggs_v1", QUOTES)
ROWS = 100_000


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    """The pair, with hashes for bytes in the target."""
    async with Sandbox(hashes_only=True) as pair:
        yield pair


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
async def test_ancestor_a_large_file_takes_flat_memory_and_no_disk(bench: Bench) -> None:
    """The ancestor sent whole files through a temporary folder."""
    large = key("2024-01-02", QUOTES)
    bench.box.source.put(large, GeneratedGzip(1024 * MIB), part_bytes=64 * MIB)
    await bench.discover()
    peak_bytes = await asyncio.to_thread(_run_measured, bench)
    current = bench.box.target.current(large)
    assert current is not None
    assert current.size == bench.box.source.object(large).content.size > 1000 * MIB
    assert (await bench.row(large))["verification"] == "etag"
    assert peak_bytes < 200_000_000
    assert {path.name.removeprefix("ledger.db") for path in bench.folder.iterdir()} <= {"", "-wal", "-shm", ".lock"}


def _run_measured(bench: Bench) -> int:
    """Run to the end; the peak of the process's memory, in bytes.

    It is read while the process stands still after its last ledger write: what wait4 tells includes the parent's memory.
    """
    environment = bench.environment(POLYB2_FAILPOINTS="ledger.end.after=stop")
    process = subprocess.Popen(
        [sys.executable, "-m", "polyb2", "run", "--concurrency", "32"], cwd=bench.folder, env=environment
    )
    # A file of more than the ledger's size would end it with SIGXFSZ.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (16 * MIB, 16 * MIB))
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    (peak_kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 0
    return int(peak_kib) * 1024


async def test_a_hundred_thousand_rows_are_queued_and_claimed_in_time(tmp_path: Path) -> None:
    ledger = await open_ledger(url_of(tmp_path / "ledger.db"))
    try:
        began_s = time.perf_counter()
        for first in range(0, ROWS, 1000):
            await ledger.record([_found(number) for number in range(first, first + 1000)], "")
        assert time.perf_counter() - began_s < 20
        worker = await ledger.register("one", 600_000)
        claims_s = []
        for _ in range(100):
            began_s = time.perf_counter()
            assert await ledger.claim_up_to(worker, 1)
            claims_s.append(time.perf_counter() - began_s)
        # The quickest is what it takes; the others may have waited for a processor.
        assert min(claims_s) < 0.005
        await ledger.calendar(DATASETS[0], 2000)  # the holidays are loaded once
        years_s = []
        for year in range(2001, 2006):
            began_s = time.perf_counter()
            assert (await ledger.calendar(DATASETS[0], year)).counts()[DayState.QUEUED] >= 365
            years_s.append(time.perf_counter() - began_s)
        assert min(years_s) < 0.1
    finally:
        await ledger.close()


def _found(number: int) -> Discovered:
    listed = ListedObject(_key(number), 20_000 + number, f"{number:032x}", 1_700_000_000_000)
    name = parse_key(listed.key)
    assert name is not None
    return Discovered(name, listed)


def _key(number: int) -> str:
    day = date(1950, 1, 1) + timedelta(days=number // len(DATASETS))
    return key(day.isoformat(), DATASETS[number % len(DATASETS)])
