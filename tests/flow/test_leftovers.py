"""Abandoned uploads: none outlives its file, and only our own are aborted."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from polyb2.core.errors import Side
from polyb2.core.records import UploadState
from polyb2.core.status import Event
from polyb2.flow.inspect.cleanup import cleanup
from polyb2.ledger.open import open_ledger
from polyb2.ledger.rows import Worker
from polyb2.sandbox import Answer, Call, Fault, GeneratedGzip, Reset, Stall
from polyb2.sandbox.multipart import Upload
from tests.conftest import MIB, QUOTES, Bench, Gate, key, until, url_of
from tests.ledger.places import read_sql

LARGE, OTHER = key("2024-01-03", QUOTES), key("2024-01-04", QUOTES)


async def test_a_parked_file_leaves_no_upload_whose_create_was_never_answered(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    bench.box.target.inject(Fault("create", Reset("after"), times=0))
    result = await bench.mirror_all(polyb2_part_tries=2)
    assert result.outcome.unfinished == {LARGE: Event.PARK}
    # The first two are not charged: nothing on that port had answered yet.
    assert bench.box.target.count("create") == 8
    bench.assert_clean()


async def test_an_upload_created_after_the_claim_was_lost_is_aborted(bench: Bench) -> None:
    """The answer to a Create comes so late that another runner, which saw no orphan, has sent the file by then."""
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    gate = Gate()
    bench.box.target.inject(Fault("create", Call(gate.hold)))
    first = asyncio.create_task(bench.run(polyb2_lease_seconds=20.0))
    await gate.reached.wait()
    ledger = await open_ledger(url_of(bench.folder / "ledger.db"))
    (worker,) = read_sql(bench.folder / "ledger.db", "SELECT id FROM workers")
    await ledger.end_worker(Worker(worker["id"], "first"), "test")
    await ledger.close()
    assert (await bench.run()).outcome.completed == 1
    gate.open()
    assert (await first).outcome.completed == 0
    assert bench.box.target.count("create") == 2
    bench.assert_mirrored(LARGE)
    bench.assert_clean()


async def test_a_stop_waits_for_the_answer_to_a_create(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    gate = Gate()
    bench.box.target.inject(Fault("create", Call(gate.hold)))
    running = asyncio.create_task(bench.run(polyb2_drain_seconds=0.0))
    await gate.reached.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.1)
    gate.open()
    assert (await running).signal == signal.SIGTERM
    uploads = read_sql(bench.folder / "ledger.db", "SELECT upload_id, state FROM uploads")
    assert [(item["upload_id"], item["state"]) for item in uploads] == [
        (bench.box.target.open_uploads()[0].upload_id, UploadState.OPEN)
    ]
    await bench.run()
    assert bench.box.target.count("create") == 1
    bench.assert_clean()


async def _parked_with_uploads(bench: Bench, *names: str) -> None:
    """Files that were parked while the target did not take the aborts of their uploads."""
    for name in names:
        bench.box.source.put(name, GeneratedGzip(11 * MIB))
    refused = bench.box.target.inject(Fault("abort", Answer(400, "InvalidRequest"), times=0))
    failing = bench.box.target.inject(Fault("upload_part", Answer(400, "InvalidRequest"), times=0))
    await bench.mirror_all()
    assert len(bench.box.target.open_uploads()) == len(names)
    refused.times = failing.times = -1


async def test_the_sweep_goes_on_after_an_upload_that_cannot_be_aborted(bench: Bench) -> None:
    await _parked_with_uploads(bench, LARGE, OTHER)
    stubborn = bench.box.target.inject(Fault("abort", Answer(400, "InvalidRequest"), key=OTHER, times=0))
    await bench.run()
    assert [item.key for item in bench.box.target.open_uploads()] == [OTHER]
    assert stubborn.hits > 0
    stubborn.times = -1
    await bench.run()
    bench.assert_clean()


async def test_the_sweep_holds_up_nobody(bench: Bench) -> None:
    await _parked_with_uploads(bench, LARGE)
    bench.box.target.inject(Fault("abort", Stall(), times=0))
    small = key("2024-01-05")
    bench.box.source.put(small, b"x")
    await bench.discover()
    running = asyncio.create_task(bench.run(polyb2_stall_timeout=0.5, polyb2_part_tries=2))
    await until(lambda: bench.box.target.current(small) is not None)
    assert bench.box.target.in_flight >= 1, "the abort that stalls is not under way"
    await running


async def test_a_long_run_sweeps_now_and_then(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.hurry(sweep_s=0.05)
    await _parked_with_uploads(bench, LARGE)
    once = bench.box.target.inject(Fault("abort", Answer(400, "InvalidRequest")))
    running = asyncio.create_task(bench.run(watch=True, polyb2_datasets=["us_options_opra/*"]))
    await until(lambda: not bench.box.target.open_uploads())
    assert once.hits == 1
    os.kill(os.getpid(), signal.SIGTERM)
    assert (await running).signal == signal.SIGTERM


async def test_cleanup_holds_a_page_of_uploads_however_many_there_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyb2.sandbox.multipart.PAGE", 2)
    names = [key(f"2024-01-{day:02}") for day in range(1, 6)]
    for name in names:
        upload = Upload(name, initiated_s=0)
        bench.box.target._uploads[upload.upload_id] = upload
    told: list[str] = []

    async def swept(*, dry_run: bool) -> int:
        async with bench.open() as mirror:
            now_ms = mirror.ledger.clock.wall_ms()
            found = await cleanup(
                mirror, older_than_s=60, now_ms=now_ms, dry_run=dry_run, tell=lambda upload: told.append(upload.key)
            )
            return found.aborted

    assert await swept(dry_run=True) == len(bench.box.target.open_uploads()) == len(names)
    bench.box.target.requests.clear()
    assert await swept(dry_run=False) == len(names)
    assert told == [*names, *names]
    asked = [item.operation for item in bench.box.target.requests]
    assert asked == [*["list_uploads", "abort", "abort"] * 2, "list_uploads", "abort"]
    bench.assert_clean()


async def test_cleanup_leaves_what_is_owned_young_or_of_others(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    bench.box.source.inject(Fault("get", Answer(500, "InternalError"), skip=1))
    await bench.discover()
    await bench.run(limit=1, polyb2_part_tries=1, polyb2_concurrency=1)
    (owned,) = bench.box.target.open_uploads()
    owned.initiated_s = 0.0
    foreign, young, orphan = Upload("backups/disk.img", initiated_s=0), Upload(OTHER), Upload(OTHER, initiated_s=0)
    bench.box.target._uploads |= {item.upload_id: item for item in (foreign, young, orphan)}
    async with bench.open() as mirror:
        swept = await cleanup(mirror, older_than_s=60, now_ms=mirror.ledger.clock.wall_ms(), dry_run=False)
    assert (swept.aborted, swept.owned, swept.young, swept.foreign) == (1, 1, 1, 1)
    left = {item.upload_id for item in bench.box.target.open_uploads()}
    assert left == {owned.upload_id, foreign.upload_id, young.upload_id}


async def test_cleanup_tells_what_it_could_not_abort(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-05"), b"x")
    await bench.discover()
    for name in (LARGE, OTHER):
        upload = Upload(name, initiated_s=0)
        bench.box.target._uploads[upload.upload_id] = upload
    bench.box.target.inject(Fault("abort", Answer(400, "InvalidRequest"), key=LARGE, times=0))
    ended = await bench.cli("cleanup")
    assert ended.code == 3, ended.err
    assert "1 uploads aborted" in ended.out
    assert "1 uploads could not be aborted" in ended.out
    bench.box.target.keys_revoked = True
    ended = await bench.cli("cleanup")
    assert ended.code == 4
    assert Side.TARGET in ended.err
