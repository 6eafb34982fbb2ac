"""No rate and no progress from bytes that were sent in vain; and a body without progress is requested again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from polyb2.clock import Clock
from polyb2.config import Settings
from polyb2.flow.mirror import InFlight, Mirror
from polyb2.sandbox import Answer, Drip, Fault, GeneratedGzip, Stall
from polyb2.sandbox.faults import Action
from polyb2.session import open_mirror
from tests.conftest import MIB, QUOTES, Bench, key

LARGE = key("2024-01-02", QUOTES)
SIZE = 12 * MIB


class Body:
    """The part of a relay that an entry reads."""

    def __init__(self, seen: int) -> None:
        self.seen = seen


async def test_bytes_of_a_body_that_failed_before_are_not_counted() -> None:
    first, again = Body(30), Body(40)
    entry = InFlight("key", "dataset", size=1000, attempt=1, settled_bytes=100)
    entry.relays |= {first, again}  # type: ignore[arg-type]
    entry.again.add(again)  # type: ignore[arg-type]
    assert (entry.bytes_on_the_way, entry.bytes_done) == (30, 130)


async def test_refused_parts_give_no_time_left_and_one_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The target takes every body whole, and answers 500."""
    bench.hurry(refusal_logged_s=0.05)
    bench.box.source.put(LARGE, GeneratedGzip(SIZE), part_bytes=6 * MIB)
    refused = bench.box.target.inject(Fault("upload_part", Answer(500, "InternalError"), times=9))
    seen: list[tuple[int, float | None]] = []

    @asynccontextmanager
    async def observed(settings: Settings, clock: Clock, **given: Any) -> AsyncIterator[Mirror]:
        async with open_mirror(settings, clock, **given) as mirror:
            watching = asyncio.create_task(watch(mirror))
            yield mirror
            watching.cancel()

    async def watch(mirror: Mirror) -> None:
        while True:
            # Each part has been refused, and none was taken yet.
            if 4 <= refused.hits < 9:
                seen.extend((entry.bytes_done, entry.left_s) for entry in mirror.in_flight.values())
            await asyncio.sleep(0.005)

    monkeypatch.setattr("polyb2.engine.open_mirror", observed)
    with caplog.at_level(logging.WARNING):
        await bench.mirror_all()
    bench.assert_mirrored(LARGE)
    assert set(seen) == {(0, None)}
    (line,) = [record.getMessage() for record in caplog.records if "refuses parts" in record.getMessage()]
    assert LARGE in line
    assert "InternalError" in line


@pytest.mark.parametrize("action", [Drip(20), Stall(after_bytes=300_000)], ids=["trickles", "stands still"])
async def test_a_range_that_gets_nowhere_is_asked_for_again(bench: Bench, action: Action) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(SIZE), part_bytes=6 * MIB)
    fault = bench.box.source.inject(Fault("get", action))
    await asyncio.wait_for(bench.mirror_all(polyb2_stall_timeout=0.5), 20)
    assert fault.hits == 1
    assert (await bench.row(LARGE))["attempt"] == 1
    bench.assert_mirrored(LARGE)
