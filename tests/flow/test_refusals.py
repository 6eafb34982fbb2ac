"""An upload that the target refuses for ever, as a full vault of B2 does: another one is begun, and no file is charged."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from polyb2.core.logevents import LogEvent
from polyb2.core.status import Event
from polyb2.flow.transfer import upload
from polyb2.flow.transfer.upload import REFUSALS_MAX, UPLOADS_MAX
from polyb2.sandbox import Answer, Call, Fault, GeneratedGzip
from polyb2.sandbox.exchange import Exchange, Reply
from polyb2.sandbox.faults import Action
from tests.conftest import MIB, QUOTES, Bench, Gate, key

LARGE, SMALL = key("2024-01-03", QUOTES), key("2024-01-02")
RETRY = Answer(500, "InternalError", "Please retry your upload")


@dataclass
class OfOneUpload(Action):
    """Refuses the first upload it meets, and no other; its first ``taken`` requests pass."""

    answer: Answer
    taken: int = 0
    refused: int = 0
    _upload_id: str = field(default="")

    async def before(self, exchange: Exchange) -> Reply | None:
        self._upload_id = self._upload_id or exchange.query["uploadId"]
        if exchange.query["uploadId"] != self._upload_id:
            return None
        if self.taken:
            self.taken -= 1
            return None
        self.refused += 1
        return await self.answer.before(exchange)


def awaited(caplog: pytest.LogCaptureFixture, event: LogEvent) -> list[str]:
    return [record.getMessage() for record in caplog.records if getattr(record, "event", None) == event]


@pytest.mark.parametrize(
    ("operation", "taken", "refusals_max"),
    [
        # Three parts are in transfer together.
        ("upload_part", 0, REFUSALS_MAX + 2),
        ("upload_part", 1, 20),
        ("upload_part", 2, 10),
        ("complete", 0, REFUSALS_MAX),
    ],
)
async def test_a_refused_upload_is_aborted_and_another_one_begun(
    bench: Bench, caplog: pytest.LogCaptureFixture, operation: str, taken: int, refusals_max: int
) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(15 * MIB - 100_000), part_bytes=5 * MIB)
    refusing = OfOneUpload(RETRY, taken)
    bench.box.target.inject(Fault(operation, refusing, times=0))
    result = await bench.mirror_all()
    assert (result.outcome.completed, result.outcome.unfinished) == (1, {})
    assert 0 < refusing.refused <= refusals_max
    assert (bench.box.target.count("create"), bench.box.target.count("abort")) == (2, 1)
    # The source's part size is asked for once, whatever number of uploads is cut by it.
    assert bench.box.source.count("head") == 1
    row = await bench.row(LARGE)
    assert (row["attempt"], row["retry_count"]) == (1, 0)
    assert len(awaited(caplog, LogEvent.UPLOAD_REFUSED)) == 1
    bench.assert_mirrored(LARGE)
    bench.assert_clean()


@pytest.mark.parametrize(("operation", "taken"), [("upload_part", 1), ("complete", 0)])
async def test_much_that_is_stored_is_not_sent_again_on_the_first_suspicion(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, operation: str, taken: int
) -> None:
    """Alone, the upload is asked again by a second attempt; if that gets nowhere either, another one is begun."""
    monkeypatch.setattr(upload, "RESENT_BYTES_MAX", 0)
    bench.box.source.put(LARGE, GeneratedGzip(15 * MIB))
    bench.box.target.inject(Fault(operation, OfOneUpload(RETRY, taken), times=0))
    assert (await bench.mirror_all()).outcome.completed == 1
    row = await bench.row(LARGE)
    assert (row["attempt"], row["retry_count"], bench.box.target.count("create")) == (2, 0, 2)
    bench.assert_mirrored(LARGE)
    bench.assert_clean()


async def test_where_others_get_through_the_fault_is_the_uploads_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "RESENT_BYTES_MAX", 0)
    bench.box.source.put(LARGE, GeneratedGzip(15 * MIB))
    bench.box.source.put(SMALL, b"small")
    gate = Gate()

    async def another() -> None:
        gate.open()
        while (await bench.row(SMALL))["status"] != "completed":
            await asyncio.sleep(0.01)

    bench.box.target.inject(Fault("put", Call(gate.hold)))
    bench.box.target.inject(Fault("complete", OfOneUpload(RETRY), times=0))
    bench.box.target.inject(Fault("list_parts", Call(another), skip=1))
    assert (await bench.mirror_all()).outcome.completed == 2
    row = await bench.row(LARGE)
    assert (row["attempt"], bench.box.target.count("create")) == (1, 2)


async def test_a_target_that_refuses_every_upload_is_asked_a_bounded_number_of_times(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(15 * MIB))
    bench.box.target.inject(Fault("upload_part", RETRY, times=0))
    result = await bench.mirror_all(polyb2_part_tries=3)
    assert result.outcome.unfinished == {LARGE: Event.PARK}
    row = await bench.row(LARGE)
    assert (row["reason"], row["retry_count"], row["attempt"]) == ("server_error", 2, 3)
    # The last upload of an attempt is the first that the next one continues with.
    assert bench.box.target.count("create") <= 3 * UPLOADS_MAX
    bench.assert_clean()


async def test_a_part_that_is_never_taken_is_not_excused_by_the_parts_of_each_new_upload(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(15 * MIB))
    bench.box.target.inject(Fault("upload_part", RETRY, part=2, times=0))
    result = await bench.mirror_all(polyb2_part_tries=2)
    assert result.outcome.unfinished == {LARGE: Event.PARK}
    assert (await bench.row(LARGE))["attempt"] <= 6
    bench.assert_clean()


async def test_a_share_of_all_requests_refused_at_random_begins_nothing_again(bench: Bench) -> None:
    @dataclass
    class AtRandom(Action):
        share: float
        dice: random.Random = field(default_factory=lambda: random.Random(7))

        async def before(self, exchange: Exchange) -> Reply | None:
            return await RETRY.before(exchange) if self.dice.random() < self.share else None

    bench.box.source.put(LARGE, GeneratedGzip(40 * MIB))
    bench.box.target.inject(Fault("upload_part", AtRandom(0.33), times=0))
    bench.box.target.inject(Fault("complete", AtRandom(0.33), times=0))
    assert (await bench.mirror_all(polyb2_concurrency=4)).outcome.completed == 1
    assert (bench.box.target.count("create"), (await bench.row(LARGE))["attempt"]) == (1, 1)


async def test_a_completed_object_that_is_not_shown_yet_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.hurry(publish_logged_s=0.2)
    bench.box.target.assembly_s = 1.5
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    with caplog.at_level("INFO"):
        assert (await bench.mirror_all()).outcome.completed == 1
    (line,) = awaited(caplog, LogEvent.FILE_AWAITED)
    assert line.startswith(f"{LARGE}: all bytes are stored and the target took the Complete")
    assert "5m00s" in line
    caplog.clear()
    bench.box.target.assembly_s = 0.0
    bench.box.source.put(LARGE, GeneratedGzip(12 * MIB, seed=1))
    with caplog.at_level("INFO"):
        await bench.mirror_all()
    assert awaited(caplog, LogEvent.FILE_AWAITED) == []
