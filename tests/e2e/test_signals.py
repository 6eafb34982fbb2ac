"""How other programs and terminals stop a process: all of it drains, whoever sends it and however often."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
import time

import pytest

from polyb2.sandbox import Drip, Fault, GeneratedGzip, Stall
from tests.conftest import MIB, QUOTES, Bench, key, until

LARGE = key("2024-01-02", QUOTES)
POLYB2 = (sys.executable, "-m", "polyb2")


async def start(
    bench: Bench, *words: str, stream: int = asyncio.subprocess.PIPE, **extra: str
) -> asyncio.subprocess.Process:
    """Start a program in a session of its own, so that what it sends to its group stays there."""
    return await asyncio.create_subprocess_exec(
        *words,
        cwd=bench.folder,
        env=bench.environment(**extra),
        stdin=asyncio.subprocess.DEVNULL if stream == asyncio.subprocess.PIPE else stream,
        stdout=stream,
        stderr=stream,
        start_new_session=True,
    )


async def _a_large_file_on_its_way(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(31 * MIB))
    await bench.discover()
    bench.box.source.inject(Fault("get", Drip(8 * MIB), times=0))


async def _assert_drained(bench: Bench) -> None:
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"], row["reason"]) == ("pending", 0, "interrupted")
    assert row["parts_done"] == bench.box.target.count("upload_part"), "a part that was under way was not recorded"


async def test_gnu_timeout_sends_the_signal_twice_and_the_run_drains(bench: Bench) -> None:
    await _a_large_file_on_its_way(bench)
    process = await start(bench, "timeout", "600", *POLYB2, "run", "--concurrency", "2", POLYB2_PART_SIZE="5MiB")
    await until(lambda: bench.box.target.count("upload_part") >= 2)
    process.send_signal(signal.SIGTERM)
    _, err = await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, err.decode()
    assert "stopping at once" not in err.decode()
    await _assert_drained(bench)


async def test_a_terminal_that_goes_away_drains_the_run(bench: Bench) -> None:
    await _a_large_file_on_its_way(bench)
    ours, theirs = pty.openpty()
    words = ("setsid", "--ctty", "--wait", *POLYB2, "run", "--concurrency", "2")
    process = await start(bench, *words, stream=theirs, POLYB2_PART_SIZE="5MiB")
    os.close(theirs)
    await until(lambda: bench.box.target.count("upload_part") >= 2)
    os.close(ours)
    assert await process.wait() == 128 + signal.SIGHUP
    await _assert_drained(bench)


async def test_under_nohup_a_hang_up_is_nothing(bench: Bench) -> None:
    await _a_large_file_on_its_way(bench)
    process = await start(bench, "nohup", *POLYB2, "run", "--concurrency", "2", POLYB2_PART_SIZE="5MiB")
    await until(lambda: bench.box.target.count("upload_part") >= 2)
    process.send_signal(signal.SIGHUP)
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    bench.assert_mirrored(LARGE)


async def test_a_second_signal_a_second_later_stops_at_once(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(21 * MIB))
    await bench.discover()
    bench.box.source.inject(Fault("get", Drip(1), times=0))
    process = await bench.start("run", POLYB2_PART_SIZE="5MiB", POLYB2_DRAIN_SECONDS="60")
    await until(lambda: bench.box.source.in_flight > 0)
    process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    while time.monotonic() - began_s < 1.1:
        await asyncio.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    await asyncio.wait_for(process.wait(), 10)
    assert process.returncode == 128 + signal.SIGHUP
    assert (await bench.row(LARGE))["status"] == "pending"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_command_that_only_lists_ends_by_the_signal_sent_twice(bench: Bench, number: signal.Signals) -> None:
    bench.box.source.inject(Fault("list", Stall(), times=0))
    process = await bench.start("discover", "--dates", "2024-01-02")
    await until(lambda: bench.box.source.in_flight > 0)
    process.send_signal(number)
    process.send_signal(number)
    _, err = await process.communicate()
    assert process.returncode == 128 + number
    assert err == b""
