"""A side that accepts connections and then is silent: commands that only read end in words, and soon."""

from __future__ import annotations

import asyncio
import time

import pytest

from polyb2.doctor.examine import examine
from polyb2.ledger.rows import Level
from polyb2.sandbox import Delay, Fault, Stall
from polyb2.sandbox.faults import Action
from tests.conftest import DAY_AGGS, Bench, key

STALL_S = 0.4
WORK_S = 2.0
"""Time for the checks and, in a process, for loading on a busy machine; it is not waiting."""
KINDS = ("day_aggs_v1", "minute_aggs_v1", "trades_v1", "quotes_v1")
DATASETS = [f"us_stocks_sip/{kind}" for kind in KINDS]
MUTE = Delay(60)
"""Not even the head of an answer comes."""
SILENCES: dict[str, Action] = {
    "source list": MUTE,
    "source get": MUTE,
    "source get, its body": Stall(),
    "source *": MUTE,
    "target list": MUTE,
    "target head": MUTE,
    "target get": MUTE,
    "target get, its body": Stall(after_bytes=100),
    "target put": MUTE,
    "target upload_part": MUTE,
    "target upload_part, unread": Stall(after_bytes=100_000, reading=True),
    "target complete": MUTE,
    "target *": MUTE,
}


@pytest.fixture
def filled(bench: Bench) -> Bench:
    for year in range(2020, 2025):
        for dataset in DATASETS:
            bench.box.source.put(key(f"{year}-01-02", dataset), b"x" * 100)
    bench.settings |= {"polyb2_datasets": DATASETS, "polyb2_stall_timeout": STALL_S}
    return bench


def silence(bench: Bench, where: str, stall: Action) -> Fault:
    side, _, operation = where.partition(",")[0].partition(" ")
    server = bench.box.source if side == "source" else bench.box.target
    return server.inject(Fault(operation, stall, times=0))


def speaks(told: str) -> bool:
    return any(words in told for words in ("was not answered within", "no byte moved for", "TimeoutError"))


@pytest.mark.parametrize("where", SILENCES)
async def test_doctor_ends_in_words(filled: Bench, where: str) -> None:
    fault = silence(filled, where, SILENCES[where])
    began_s = time.monotonic()
    checkup = await asyncio.wait_for(examine(filled.configured()), 60)
    seconds = time.monotonic() - began_s
    failed = [check for check in checkup.checks if check.level is Level.FAIL]
    assert fault.hits
    assert failed
    assert all(check.name.startswith(where.partition(" ")[0]) and speaks(check.found) for check in failed), failed
    assert seconds < 3 * STALL_S + WORK_S


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [("source get", 0, ["datasets", "--probe", "--dataset", "us_stocks_sip/*"]), ("source *", 4, ["datasets", "--probe"]),
     ("target *", 4, ["doctor"])],
)  # fmt: skip
async def test_a_command_ends_in_words(filled: Bench, where: str, code: int, words: list[str]) -> None:
    silence(filled, where, MUTE)
    surroundings = {"POLYB2_STALL_TIMEOUT": f"{STALL_S}s", "POLYB2_DATASETS": DAY_AGGS}
    began_s = time.monotonic()
    ended = await asyncio.wait_for(filled.cli(*words, **surroundings), 60)
    assert time.monotonic() - began_s < 3 * STALL_S + 2 * WORK_S
    assert ended.code == code, ended
    assert speaks(ended.out + ended.err), ended
