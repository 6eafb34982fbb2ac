"""Sizes that the target cannot hold: reported by name and parked, at no cost, and nothing else is held up."""

from __future__ import annotations

import json
import os
import signal

import pytest

from polyb2.core.parts import OBJECT_BYTES_MAX
from polyb2.core.status import Event
from polyb2.sandbox import Call, Fault, GeneratedGzip
from tests.conftest import MIB, QUOTES, Bench, key, until

SMALL, LARGE, ALSO_LARGE = key("2024-01-02"), key("2024-01-03", QUOTES), key("2024-01-04", QUOTES)


class Endless:
    """An object with an announced size, which is never read to its end."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        return bytes(min(length, self.size - offset, MIB))


async def _assert_parked(bench: Bench) -> None:
    row = await bench.row(LARGE)
    assert (row["status"], row["reason"]) == ("permanent_failure", "too_large")
    assert "beyond the target's 10.0 TB" in row["error_message"]
    assert "polyb2 discover" in row["error_message"]
    bench.assert_clean()


@pytest.mark.parametrize("size", [OBJECT_BYTES_MAX + 1, 2**63 - 1])
@pytest.mark.parametrize("part_bytes", [5 * MIB, None], ids=["5 MiB parts", "automatic"])
async def test_a_file_too_large_for_the_target_is_parked_with_words(
    bench: Bench, size: int, part_bytes: int | None
) -> None:
    bench.box.source.put(SMALL, b"small")
    bench.box.source.put(LARGE, Endless(size), opaque_etag=f"{'0' * 32}-9")
    bench.box.source.put(ALSO_LARGE, Endless(size), opaque_etag=f"{'0' * 32}-9")
    result = await bench.mirror_all(polyb2_part_size=part_bytes)
    assert (result.outcome.completed, result.outcome.unfinished) == (1, {LARGE: Event.PARK, ALSO_LARGE: Event.PARK})
    await _assert_parked(bench)
    # What is never sent counts as no bytes: a few sums of such sizes would be beyond any number.
    (held,) = (
        item for item in json.loads((await bench.cli("status", "--json")).out)["datasets"] if item["dataset"] == QUOTES
    )
    assert (held["files"], held["bytes"]) == (2, 0)
    assert bench.box.source.count("get", LARGE) == bench.box.target.count("create") == 0


async def test_a_file_that_becomes_too_large_in_mid_transfer_is_parked_and_the_run_can_be_stopped(
    bench: Bench,
) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB))
    await bench.discover()

    def replace() -> None:
        bench.box.source.put(LARGE, Endless(2**62), opaque_etag="huge")
        bench.box.source.put(SMALL, b"small")

    bench.box.source.inject(Fault("get", Call(replace), key=LARGE, skip=1))
    result = await bench.run(polyb2_concurrency=1)
    assert result.outcome.unfinished == {LARGE: Event.PARK}
    await _assert_parked(bench)
    assert (await bench.row(LARGE))["revision"] == 2


async def test_the_largest_file_that_fits_is_begun_part_by_part_and_stops_at_once(bench: Bench) -> None:
    """10 TB in 5 MiB parts would be two million; its parts are made as they are sent."""
    bench.box.source.put(LARGE, Endless(OBJECT_BYTES_MAX), opaque_etag="huge")
    await bench.discover()
    stop = Call(lambda: os.kill(os.getpid(), signal.SIGTERM))
    bench.box.source.inject(Fault("get", stop, key=LARGE))
    result = await bench.run(polyb2_concurrency=2, polyb2_drain_seconds=0.2)
    assert result.signal == signal.SIGTERM
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"], row["parts_total"]) == ("pending", 0, 10_000)
    await until(lambda: bench.box.target.in_flight == 0)
