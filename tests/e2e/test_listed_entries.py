"""Entries of a listing that cannot be, before every command that lists: each is named, and holds up nothing else."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from polyb2.sandbox import Fault, Shape
from polyb2.sandbox.exchange import Reply
from tests.conftest import DAY_AGGS, Bench, key, until
from tests.e2e.test_one_ledger import watching

HUGE = key("2024-01-03")
"""Beyond what the target holds, and still a number: queued like any other, and parked by name when its turn comes."""
GOOD = [key(f"2024-01-{day:02}") for day in (2, 10)]
BENT = {
    HUGE: ("Size", str(2**63 - 1)),
    key("2024-01-04"): ("Size", str(2**63)),
    key("2024-01-05"): ("Size", "-1"),
    key("2024-01-06"): ("Size", str(10**30)),
    key("2024-01-07"): ("Size", "abc"),
    key("2024-01-08"): ("Size", ""),
    key("2024-01-09"): ("LastModified", "yesterday"),
}
NOW = {"POLYB2_FAKE_NOW": "2024-01-10T23:00:00Z", "POLYB2_DATASETS": DAY_AGGS}
SELECTED = ("--dates", "2024-01-02..2024-01-10")
MEMORY_MAX_KB = 200_000


def bend(reply: Reply) -> None:
    assert isinstance(reply.body, bytes)
    xml = reply.body.decode()
    for name, (element, instead) in BENT.items():
        pattern = rf"(<Key>{re.escape(name)}</Key>(?:(?!</Contents>).)*<{element}>)[^<]*"
        xml = re.sub(pattern, rf"\g<1>{instead}", xml)
    reply.body, reply.length = xml.encode(), len(xml.encode())


async def test_no_command_is_held_up_by_entries_that_cannot_be(bench: Bench) -> None:
    for name in (*GOOD, *BENT):
        bench.box.source.put(name, b"x")
    bench.box.source.inject(Fault("list", Shape(bend), times=0))
    for words, code in ((("plan",), 0), (("discover",), 0), (("sync",), 3)):
        ended = await bench.cli(*words, *SELECTED, **NOW)
        assert ended.code == code, ended.err
        for name in set(BENT) - {HUGE}:
            assert [line for line in ended.out.splitlines() if line.startswith(f"left out: {name}: ")], (
                words,
                ended.out,
            )
    assert "2 files checked, 0 differences" in (await bench.cli("verify", **NOW)).out
    for name in GOOD:
        bench.assert_mirrored(name)
    rows = await bench.rows()
    assert set(rows) == {*GOOD, HUGE}
    assert (rows[HUGE]["status"], rows[HUGE]["reason"]) == ("permanent_failure", "too_large")
    assert str(2**63 - 1) in rows[HUGE]["error_message"]


async def test_a_watch_of_such_a_listing_stays_small_and_ends_when_it_is_told_to(bench: Bench) -> None:
    for name in (*GOOD, *BENT):
        bench.box.source.put(name, b"x")
    bench.box.source.inject(Fault("list", Shape(bend), times=0))
    bench.fresh = True
    async with watching(bench, POLYB2_POLL_INTERVAL="1s", **NOW) as run:
        await until(lambda: bench.box.target.current(GOOD[1]) is not None)
        listings = bench.box.source.count("list")
        await until(lambda: bench.box.source.count("list") > listings + 1)
        await run.waits_for("/readyz", 200)
        (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{run.process.pid}/status").read_text())
        assert int(peak_kb) < MEMORY_MAX_KB
        run.process.send_signal(signal.SIGTERM)
        assert await run.process.wait() == 0
