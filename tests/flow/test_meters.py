"""The counters of a run, from real transfers and real faults."""

from __future__ import annotations

import time
from typing import Any

from polyb2.core.errors import Kind, Side
from polyb2.core.status import Event
from polyb2.engine import RunOptions, run
from polyb2.flow.discover.consent import Consent
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.meters import Histogram, Meters
from polyb2.sandbox import Answer, Call, Fault, GeneratedGzip
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key

SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)


async def measured(bench: Bench, **overrides: Any) -> Meters:
    """The counters of a run that drained the queue."""
    seen: list[Meters] = []

    def look(mirror: Mirror, _outage: CircuitBreaker) -> None:
        seen.append(mirror.meters)

    await run(
        bench.configured(**overrides), RunOptions(None, watch=False, limit=None, consent=Consent(10**15), on_start=look)
    )
    return seen[0]


def count(histogram: Histogram) -> int:
    return sum(histogram.counts)


def test_an_observation_on_the_bound_counts_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 8.0)


async def test_bytes_parts_and_files_are_counted_by_dataset(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    bench.box.source.put(LARGE, GeneratedGzip(12 * MIB))
    size = bench.original(LARGE)
    await bench.discover()
    meters = await measured(bench)
    assert meters.read_bytes == meters.stored_bytes == {DAY_AGGS: 1000, QUOTES: len(size)}
    assert {name: count(parts) for name, parts in meters.part_seconds.items()} == {DAY_AGGS: 1, QUOTES: 3}
    assert {name: count(files) for name, files in meters.file_seconds.items()} == {DAY_AGGS: 1, QUOTES: 1}
    assert meters.attempts == {(DAY_AGGS, Event.COMPLETE): 1, (QUOTES, Event.COMPLETE): 1}
    assert count(meters.answer_seconds[Side.SOURCE, "get"]) == 4
    assert count(meters.answer_seconds[Side.TARGET, "complete"]) == 1
    assert (meters.errors, meters.retries, meters.leases_lost) == ({}, {}, 0)


async def test_a_small_file_of_unknown_md5_counts_once(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000, opaque_etag="any-token")
    await bench.discover()
    meters = await measured(bench)
    assert meters.read_bytes == meters.stored_bytes == {DAY_AGGS: 1000}


async def test_errors_and_retries_are_counted_by_side_and_kind(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    bench.box.source.put(LARGE, b"y" * 1000)
    await bench.discover()
    bench.box.source.inject(Fault("get", Answer(503, "SlowDown"), times=2))
    bench.box.target.inject(Fault("put", Answer(500, "InternalError")))
    meters = await measured(bench)
    assert meters.errors == {(Side.SOURCE, Kind.THROTTLED): 2, (Side.TARGET, Kind.SERVER_ERROR): 1}
    assert meters.retries == {Side.SOURCE: 2, Side.TARGET: 1}
    assert meters.read_bytes.total() > meters.stored_bytes.total() == 2000


async def test_an_error_that_is_not_tried_again_is_no_retry(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    await bench.discover()
    bench.box.source.inject(Fault("get", Answer(403, "AccessDenied"), times=0))
    meters = await measured(bench)
    assert meters.errors == {(Side.SOURCE, Kind.FORBIDDEN): 2}
    assert meters.retries == {}
    assert meters.attempts == {(DAY_AGGS, Event.FAIL_DOWNLOAD): 1, (DAY_AGGS, Event.REFUSE): 1}


async def test_a_lost_lease_is_counted(bench: Bench) -> None:
    """The process is suspended for longer than its lease."""
    bench.box.source.put(SMALL, b"x" * 1000)
    await bench.discover()
    bench.box.source.inject(Fault("get", Call(lambda: time.sleep(1.2))))
    assert (await measured(bench, polyb2_lease_seconds=1.0)).leases_lost == 1
    bench.assert_mirrored(SMALL)
