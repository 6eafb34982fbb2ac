"""Guards of what a second attempt finds and of what is given up, each with the harm that it keeps off."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from polyb2.core.errors import LeaseLostError
from polyb2.core.records import UploadState
from polyb2.core.selection import EVERYTHING
from polyb2.flow.inspect.verify import verify
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.flow.run.diagnosis import Diagnosis
from polyb2.flow.run.settle import Settlement, SettlementRules
from polyb2.sandbox import Answer, Call, Fault, FlipStored, GeneratedGzip
from polyb2.sandbox.exchange import Exchange, Reply
from polyb2.sandbox.faults import Action
from polyb2.sandbox.multipart import Upload
from tests.conftest import MIB, QUOTES, Bench, Gate, key
from tests.ledger.places import read_sql

SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)


async def _begun(bench: Bench) -> Upload:
    """A file of which a first attempt sent part 1, and ended."""
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB))
    bench.box.source.inject(Fault("get", Answer(500, "InternalError"), skip=1))
    await bench.discover()
    await bench.run(limit=1, polyb2_part_tries=1, polyb2_concurrency=1)
    (upload,) = bench.box.target.open_uploads()
    assert sorted(upload.parts) == [1]
    return upload


# -- what an earlier attempt left -----------------------------------------------------------------------------------------


async def test_a_part_that_the_target_has_no_longer_is_sent_again(bench: Bench) -> None:
    upload = await _begun(bench)
    upload.parts.clear()
    await bench.run()
    bench.assert_mirrored(LARGE)
    assert ((await bench.row(LARGE))["attempt"], bench.box.target.count("create")) == (2, 1)


async def test_an_upload_beside_the_one_that_is_resumed_is_aborted(bench: Bench) -> None:
    await _begun(bench)
    stranger = Upload(LARGE)
    bench.box.target._uploads[stranger.upload_id] = stranger
    await bench.run()
    assert bench.box.target.count("create") == 1
    bench.assert_mirrored(LARGE)
    bench.assert_clean()


async def test_an_upload_that_is_gone_makes_room_for_another(bench: Bench) -> None:
    upload = await _begun(bench)
    bench.box.target.drop_upload(upload.upload_id)
    await bench.run()
    bench.assert_mirrored(LARGE)
    assert ((await bench.row(LARGE))["attempt"], bench.box.target.count("create")) == (2, 2)


async def test_a_successor_knows_that_a_composite_was_none(bench: Bench) -> None:
    """The first attempt read everything again to find that out, and ended after its Complete."""
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB), part_bytes=5 * MIB, opaque_etag=f"{'0123456789abcdef' * 2}-3")
    lost = bench.box.target.inject(Fault("head", Answer(500, "InternalError")))
    await bench.mirror_all(polyb2_part_tries=1)
    row = await bench.row(LARGE)
    assert (lost.hits, row["attempt"], row["verification"]) == (1, 2, "parts")


async def test_a_landed_put_is_read_back_before_it_is_settled(bench: Bench) -> None:
    """The target's ETags are no MD5s, it compares no Content-MD5, and the answer to the PUT was lost."""
    bench.box.target.etags, bench.box.target.checks_content_md5 = "opaque", False
    bench.box.source.put(key("2024-01-05"), b"shows what the target is")
    await bench.mirror_all()
    bench.box.source.put(SMALL, b"small")
    for action in (FlipStored(), Answer(500, "InternalError", took_place=True)):
        bench.box.target.inject(Fault("put", action, key=SMALL))
    await bench.mirror_all(polyb2_part_tries=1)
    assert (await bench.row(SMALL))["status"] == "completed"
    assert bench.stored(SMALL) == b"small"


async def test_a_repair_does_not_recognise_what_is_known_to_be_wrong(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"right")
    await bench.mirror_all()
    ours = bench.box.target.current(SMALL)
    assert ours is not None
    await bench.box.target.store(SMALL, b"wrong", ours.metadata)
    async with bench.open() as mirror:
        assert (await verify(mirror, EVERYTHING, mend=True)).repaired == 1
    await bench.run()
    bench.assert_mirrored(SMALL)


# -- what is given up -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WithoutEffect(Action):
    """Answered as if it had been done."""

    async def before(self, exchange: Exchange) -> Reply:
        return Reply(204)


async def test_an_abort_without_effect_lets_nothing_new_begin(bench: Bench) -> None:
    await _begun(bench)
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB, seed=1))
    await bench.discover()
    bench.box.target.inject(Fault("abort", WithoutEffect(), times=0))
    await bench.run(limit=1)
    assert bench.box.target.count("create") == 1
    uploads = read_sql(bench.folder / "ledger.db", "SELECT state FROM uploads")
    assert [upload["state"] for upload in uploads] == [UploadState.ABANDONED]


async def test_a_file_that_is_not_entitled_any_more_leaves_no_upload(bench: Bench) -> None:
    await _begun(bench)
    bench.box.source.entitled = lambda _key: False
    await bench.run()
    assert (await bench.row(LARGE))["status"] == "not_entitled"
    bench.assert_clean()


async def test_a_removed_version_is_not_waited_for(bench: Bench) -> None:
    """It was ours and read back wrong; the next attempt looks once, and begins."""
    bench.hurry(publish_limit_s=1.0)
    bench.box.target.etags = "opaque"
    bench.box.source.put(key("2024-01-05"), b"shows what the target is")
    await bench.mirror_all()
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    bench.box.target.inject(Fault("upload_part", FlipStored(), part=2))
    await bench.mirror_all()
    assert ((await bench.row(LARGE))["attempt"], bench.box.target.count("head", LARGE)) == (2, 3)


async def test_the_wait_for_a_lost_object_ends(bench: Bench) -> None:
    """The upload is gone at its Complete, and no object comes."""
    bench.hurry(publish_limit_s=0.3)
    target = bench.box.target
    target.inject(Fault("complete", Call(lambda: target.drop_upload(target.open_uploads()[0].upload_id))))
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    async with asyncio.timeout(15):
        await bench.mirror_all()
    bench.assert_mirrored(LARGE)
    assert ((await bench.row(LARGE))["attempt"], target.count("create")) == (1, 2)


# -- ends and leases ------------------------------------------------------------------------------------------------------


async def test_a_drain_begins_no_further_part(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB))
    bench.box.target.inject(Fault("upload_part", Call(lambda: os.kill(os.getpid(), signal.SIGTERM))))
    await bench.mirror_all(polyb2_concurrency=1)
    row = await bench.row(LARGE)
    assert (row["status"], row["reason"], row["retry_count"]) == ("pending", "interrupted", 0)
    assert (row["parts_done"], bench.box.target.count("upload_part")) == (1, 1)


async def test_a_worker_without_its_lease_sends_no_further_request(bench: Bench) -> None:
    """The lease is lost while the source answers; the PUT is for the worker that has the row then."""
    bench.box.source.put(SMALL, b"small")
    await bench.discover()

    def fence(_worker: int) -> None:
        if bench.box.source.count("get"):
            raise LeaseLostError("gone")

    async with bench.open() as mirror:
        worker = await mirror.ledger.register("worker", 60_000)
        (claim,) = await mirror.ledger.claim_up_to(worker, 1)
        diagnosis = Diagnosis({})
        breaker = CircuitBreaker(diagnosis, give_up_s=1.0, for_ever=False)
        settlement = Settlement(mirror, fence, breaker, diagnosis, SettlementRules(0, 0.0))
        assert await settlement.work(claim, await mirror.slots.for_claim()) is None
        await mirror.ledger.end_worker(worker, "test")
    assert (bench.box.source.count("get"), bench.box.target.count("put")) == (1, 0)
    await bench.run()
    bench.assert_mirrored(SMALL)


async def test_what_is_under_way_ends_with_the_lease(bench: Bench) -> None:
    """A request that is not answered does not keep the next attempt from its file, nor the run from its end."""
    gate, other = Gate(), key("2024-01-03")
    for name in (SMALL, other):
        bench.box.source.put(name, b"small")
    bench.box.source.inject(Fault("get", Call(gate.hold), key=SMALL))
    bench.box.source.inject(Fault("get", Call(lambda: time.sleep(1.2)), key=other))
    async with asyncio.timeout(15):
        result = await bench.mirror_all(polyb2_lease_seconds=1.0)
    gate.open()
    assert result.outcome.completed == 2
    assert (await bench.row(SMALL))["attempt"] == 2


async def test_a_run_that_is_stopped_gives_its_rows_back(bench: Bench) -> None:
    """Whoever comes next need not wait for the lease to run out."""
    gate = Gate()
    bench.box.source.put(SMALL, b"small")
    await bench.discover()
    bench.box.source.inject(Fault("get", Call(gate.hold)))
    running = asyncio.create_task(bench.run(polyb2_drain_seconds=0.0))
    await gate.reached.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await running
    gate.open()
    row = await bench.row(SMALL)
    assert (row["status"], row["retry_count"], row["worker_id"]) == ("pending", 0, None)
