"""A process that loses its lease while it lives goes on with a new one, and leaves no row behind."""

from __future__ import annotations

import pytest

from polyb2.flow import pool
from polyb2.sandbox import Delay, Fault, GeneratedGzip
from tests.conftest import MIB, QUOTES, Bench, key

LARGE = key("2024-01-02", QUOTES)
LEASE_S = 1.0


@pytest.mark.parametrize("operation", ["create", "complete"])
async def test_a_run_that_lost_its_lease_does_not_take_the_queue_for_empty(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The claim was dropped unsettled; a run that ended before its heartbeat came left the file in processing."""
    monkeypatch.setattr(pool, "RENEWALS_A_LEASE", 0.5)  # as if the loop had been blocked past the lease
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    bench.box.target.inject(Fault(operation, Delay(1.2 * LEASE_S)))
    result = await bench.run(polyb2_lease_seconds=LEASE_S)
    assert (result.outcome.completed, result.outcome.unfinished) == (1, {})
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"], row["attempt"]) == ("completed", 0, 2)
    bench.assert_mirrored(LARGE)
    bench.assert_clean()
