"""A process that is killed, stopped, left running, or not alone."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import aiohttp
import pytest

from polyb2 import __version__
from polyb2.sandbox import Answer, Call, Drip, Fault, GeneratedGzip, Stall
from polyb2.sandbox.multipart import Upload
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key, until

SMALL, LARGE = key("2024-01-02"), key("2024-01-02", QUOTES)
PLAIN = ("--dataset", DAY_AGGS)


async def test_cleanup_sweeps_orphans_only(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(26 * MIB))
    await bench.discover()
    bench.box.source.inject(Fault("get", Drip(1), skip=2, times=0))
    process = await bench.start("run", "--concurrency", "1", POLYB2_PART_SIZE="5MiB")
    await until(lambda: bench.box.target.count("upload_part") == 2)
    process.kill()
    await process.wait()
    old = Upload(SMALL, initiated_s=0)
    foreign = Upload("backups/photos.zip", initiated_s=0)
    young = Upload(key("2024-01-03"))
    for upload in (old, foreign, young):
        bench.box.target._uploads[upload.upload_id] = upload
    assert "1 uploads to abort" in (await bench.cli("cleanup", "--dry-run")).out
    assert len(bench.box.target.open_uploads()) == 4
    assert "1 uploads aborted" in (await bench.cli("cleanup")).out
    assert {item.key for item in bench.box.target.open_uploads()} == {LARGE, foreign.key, young.key}


async def test_cleanup_keeps_to_its_prefix_and_the_layout(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.mirror_all(b2_key_prefix="mirror/")
    keys = [
        f"mirror/{SMALL}",
        SMALL,
        f"mirrored/{SMALL}",
        "mirror/notes.txt",
        f"mirror/old/{SMALL}",
        f"mirror/../{SMALL}",
    ]
    for name in keys:
        upload = Upload(name, initiated_s=0)
        bench.box.target._uploads[upload.upload_id] = upload
    ended = await bench.cli("cleanup", B2_KEY_PREFIX="mirror/")
    assert ended.code == 0, ended.err
    assert sorted(item.key for item in bench.box.target.open_uploads()) == sorted(keys[1:])


async def test_kill_9_in_a_large_file_goes_on_from_its_parts(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(61 * MIB))
    await bench.discover()
    slow = bench.box.source.inject(Fault("get", Drip(1), skip=6, times=0))
    extra = {"POLYB2_PART_SIZE": "5MiB", "POLYB2_LEASE_SECONDS": "1"}
    killed = await bench.cli("run", "--concurrency", "2", POLYB2_FAILPOINTS="ledger.receipt.after=kill@6", **extra)
    assert killed.code == -signal.SIGKILL
    row = await bench.row(LARGE)
    assert (row["status"], row["parts_done"]) == ("processing", 6)
    assert (await bench.cli("status", "--json")).json()["in_flight"][0]["bytes_done"] == 30 * MIB
    slow.times = -1
    ended = await bench.cli("run", "--concurrency", "2", **extra)
    assert ended.code == 0, ended.err
    bench.assert_mirrored(LARGE)
    bench.assert_clean()
    sent = [item.part for item in bench.box.target.requests if item.operation == "upload_part" and item.status == 200]
    assert sorted(part for part in sent if part) == list(range(1, 14)), "a part with a receipt was sent again"
    assert (await bench.row(LARGE))["attempt"] == 2


async def test_status_shows_the_streams_and_the_pace_of_a_run(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(61 * MIB))
    await bench.discover()
    bench.box.source.inject(Fault("get", Drip(1), times=0))
    process = await bench.start("run", "--concurrency", "2", POLYB2_LEASE_SECONDS="1", POLYB2_B2_RPS="7")
    found: list[dict[str, object]] = []

    async def shown() -> bool:
        found[:] = (await bench.cli("status", "--json")).json()["runners"]
        return any(item["streams_in_use"] for item in found)

    async with asyncio.timeout(30):
        while not await shown():
            await asyncio.sleep(0.1)
    words = (await bench.cli("status")).out
    process.kill()
    await process.wait()
    (runner,) = found
    assert (runner["streams_allowed"], runner["source_rps"], runner["target_rps"]) == (2, None, 7)
    assert "of 2 streams in use, target at most 7 requests/s" in words
    assert (runner["host"], runner["version"], runner["since"]) == (
        socket.gethostname(),
        __version__,
        runner["started_at"],
    )
    assert f"running: {runner['worker_id']} on {socket.gethostname()}, polyb2 {__version__}, since 20" in words.replace(
        "\n", " "
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
async def test_a_signal_drains(bench: Bench, number: signal.Signals, code: int) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(61 * MIB))
    await bench.discover()
    slow = bench.box.source.inject(Fault("get", Drip(8 * MIB), times=0))
    process = await bench.start("run", "--concurrency", "2", POLYB2_PART_SIZE="5MiB")
    await until(lambda: bench.box.target.count("upload_part") >= 2)
    process.send_signal(number)
    _out, err = await process.communicate()
    assert process.returncode == code, err.decode()
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"], row["reason"]) == ("pending", 0, "interrupted")
    sent = bench.box.target.count("upload_part")
    assert row["parts_done"] == sent, "a part that was under way was not recorded"
    slow.times = -1
    await bench.run()
    bench.assert_mirrored(LARGE)
    assert bench.box.target.count("upload_part") == 13


@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_stalled_peer_does_not_hold_up_the_end(bench: Bench, side: str) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    bench.box.source.put(LARGE, GeneratedGzip(21 * MIB))
    await bench.discover()
    server = bench.box.source if side == "source" else bench.box.target
    server.inject(Fault("*", Stall(), times=0))
    process = await bench.start("run", POLYB2_PART_SIZE="5MiB", POLYB2_DRAIN_SECONDS="1")
    await until(lambda: server.in_flight >= 2)
    began_s = asyncio.get_running_loop().time()
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.wait(), 6)
    assert asyncio.get_running_loop().time() - began_s < 1 + 5
    assert process.returncode == 143
    assert (await bench.row(LARGE))["status"] == "pending"


async def test_watch_discovers_by_itself_and_drains_with_0(bench: Bench) -> None:
    extra = {
        "POLYB2_POLL_INTERVAL": "200ms",
        "POLYB2_FAKE_NOW": "2024-01-05T12:00:00+00:00",
        "POLYB2_DATASETS": DAY_AGGS,
    }
    bench.box.source.put(SMALL, b"one")
    bench.box.source.put(key("2020-01-02"), b"never chosen")
    process = await bench.start("run", "--watch", **extra)
    await until(lambda: bench.box.target.current(SMALL) is not None)
    bench.box.source.put(key("2024-01-04"), b"late")
    await until(lambda: bench.box.target.current(key("2024-01-04")) is not None)
    process.send_signal(signal.SIGTERM)
    _out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert bench.box.target.keys() == [SMALL, key("2024-01-04")]


async def test_the_watch_finds_older_files_that_were_replaced(bench: Bench) -> None:
    old = key("2020-01-02")
    bench.box.source.put(old, b"old")
    await bench.mirror_all()
    bench.box.source.put(old, b"replaced")
    extra = {"POLYB2_FAKE_NOW": "2024-01-05T12:00:00+00:00", "POLYB2_DATASETS": DAY_AGGS}
    process = await bench.start("run", "--watch", **extra)
    await until(lambda: len(bench.box.target.versions(old)) == 2)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    bench.assert_mirrored(old)


async def test_a_file_that_another_runner_completed_meanwhile_is_not_told_as_failed(bench: Bench) -> None:
    other = key("2024-01-03")
    bench.box.source.put(SMALL, b"fails here, and another runner completes it")
    bench.box.source.put(other, b"keeps this runner busy meanwhile")
    await bench.discover()
    bench.box.target.inject(Fault("put", Answer(500, "InternalError"), key=SMALL))
    codes: list[int] = []

    async def run_another() -> None:
        while (await bench.row(SMALL))["status"] != "failed_upload":
            await asyncio.sleep(0.01)
        codes.append((await bench.cli("run", "--limit", "1")).code)

    bench.box.source.inject(Fault("get", Call(run_another), key=other))
    ended = await bench.cli("run", "--limit", "2", POLYB2_PART_TRIES="1")
    assert (codes, ended.code) == ([0], 0)
    assert "not completed" not in ended.out


async def test_two_runners_share_the_queue_and_send_nothing_twice(bench: Bench) -> None:
    for day in range(1, 29):
        bench.box.source.put(key(f"2024-02-{day:02}"), os.urandom(5000))
    await bench.discover()
    first, second = await asyncio.gather(bench.cli("run", "--concurrency", "2"), bench.cli("run", "--concurrency", "2"))
    assert (first.code, second.code) == (0, 0)
    done = [int(ended.out.split(" files completed")[0].split()[-1]) for ended in (first, second)]
    assert sum(done) == 28
    assert bench.box.target.count("put") == 28


async def test_health_is_served_while_run_is_up(bench: Bench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    process = await bench.start("run", "--watch", POLYB2_HTTP_ADDR=address, POLYB2_DATASETS="nobody/nothing")
    async with aiohttp.ClientSession() as session:

        async def status(page: str) -> int:
            try:
                async with session.get(f"http://{address}{page}") as response:
                    return response.status
            except aiohttp.ClientError:
                return 0

        while await status("/healthz") != 200:
            await asyncio.sleep(0.05)
        while await status("/readyz") != 503:
            await asyncio.sleep(0.05)
        second = await bench.start("run", POLYB2_HTTP_ADDR=address)
        _out, err = await second.communicate()
        assert second.returncode == 0
        assert b"no health page" in err
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
