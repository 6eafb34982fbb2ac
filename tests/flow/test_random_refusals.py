"""Refusals that the pace does not cause, on the real engine: they cost their retries and no more."""

from __future__ import annotations

import random
import time
from datetime import date, timedelta

import pytest

from polyb2.sandbox.faults import Answer, Fault
from tests.conftest import Bench, key

FILES = 200
SLOTS = 16


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}], ids=["", "Retry-After"])
async def test_a_fifth_of_all_requests_refused_at_random_costs_their_retries_and_no_more(
    bench: Bench, headers: dict[str, str]
) -> None:
    for number in range(2 * FILES):
        bench.box.source.put(key((date(2023, 1, 1) + timedelta(days=number)).isoformat()), b"row\n" * 2000)
    await bench.discover()
    quiet_s = await seconds(bench)
    refusal = Answer(503, "ServiceUnavailable", "no tomes available", headers)
    fault = bench.box.target.inject(Fault("*", refusal, times=0, share=0.2, dice=random.Random(4)))
    refused_s = await seconds(bench)
    assert fault.hits >= FILES / 8
    assert refused_s < 3 * quiet_s + 5, f"{quiet_s:.1f} s without refusals, {refused_s:.1f} s with them"


async def seconds(bench: Bench) -> float:
    """Of a run that mirrors so many files."""
    began_s = time.monotonic()
    result = await bench.run(polyb2_concurrency=SLOTS, limit=FILES)
    assert result.outcome.completed == FILES
    return time.monotonic() - began_s
