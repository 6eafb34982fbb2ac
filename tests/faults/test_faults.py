"""A part of the fault matrix that fits into every test run; ``make faults`` plays all of it and writes the report."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from tests.faults.books import ledger_cases
from tests.faults.catalogue import catalogue
from tests.faults.death import Soak, die_at, kill_points, killed
from tests.faults.drain import PEERS, Peer, drained_at, drained_beside
from tests.faults.lines import Line, alone, side_by_side, soak, unplayed, watched_soak
from tests.faults.matrix import play
from tests.faults.onlookers import WatchedSoak
from tests.faults.pairs import mirrored_in
from tests.faults.places import PLACES, play_in
from tests.faults.power import PowerLoss
from tests.faults.report import report, rows
from tests.faults.runners import frozen_at
from tests.faults.scenes import Case
from tests.faults.servers import survive
from tests.faults.shaped import QUICK, missing, send_over
from tests.faults.troubles import TROUBLES, missing_for

EVERY = 21
"""Every so many cases of the matrix, in its stable order: a few of each step."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs signals and /proc of Linux")


@pytest.mark.parametrize("case", catalogue()[::EVERY], ids=lambda case: case.name)
async def test_a_fault_harms_nothing_and_is_survived(case: Case) -> None:
    await play(case)


async def test_a_fault_strikes_what_the_ledger_writes_together() -> None:
    complete = [case for case in ledger_cases() if (case.step, case.lasts) == ("ledger write: complete", "once")]
    assert complete
    for case in complete:
        await play(case)


async def test_a_process_killed_at_any_point_is_succeeded_by_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    points = await kill_points()
    assert len({point for _, point, _ in points}) > 40
    for scene, point, nth in points[::18]:
        await die_at(scene, point, nth)


async def test_killing_a_process_leaves_its_code_to_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """``poll`` of a process that has just ended takes the code away from asyncio, which makes it 255."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.delattr(subprocess.Popen, "poll")
    assert await killed(process) == -signal.SIGKILL
    assert await killed(process) == -signal.SIGKILL, "it had ended already"


async def test_random_kills_under_load_cost_little_and_lose_nothing() -> None:
    soak = Soak(seed=1)
    await soak.run(4)
    assert soak.kills == 4


@linux
@pytest.mark.parametrize(
    "point", ["ledger.claim.after", "target.create.before", "ledger.begin.before", "target.put.before"]
)
async def test_a_process_frozen_past_its_lease_settles_nothing(point: str) -> None:
    assert await frozen_at(point), "it never came there"


@linux
async def test_a_process_woken_beside_its_successor_harms_nothing() -> None:
    assert await frozen_at("target.upload_part.before", early=True), "it never came there"


@linux
async def test_a_copy_of_the_ledger_at_a_random_moment_is_whole_and_goes_on() -> None:
    loss = PowerLoss(seed=1)
    await loss.run()
    assert loss.copies


@pytest.mark.parametrize("peer", PEERS[4:20:7], ids=lambda peer: f"{peer.step}, {peer.fault}")
async def test_a_stop_does_not_wait_for_a_peer_that_stands_still(peer: Peer) -> None:
    assert await drained_beside(peer), "it never came there"


async def test_a_stop_at_a_write_of_the_ledger_leaves_its_rows_free() -> None:
    assert await drained_at("ledger.receipt.before"), "it never came there"


@linux
async def test_kills_beside_an_open_page_and_other_commands_leave_one_ledger() -> None:
    soak = WatchedSoak(seed=1)
    await soak.run(2)
    assert soak.kills == 2
    assert soak.looks


@linux
async def test_a_mirror_through_a_proxy_that_is_refused_now_and_then_ends_right() -> None:
    await mirrored_in(("a proxy in between", "a fifth of all refused"), seed=1)


@linux
@pytest.mark.parametrize(
    "words",
    [
        "all standard streams closed",
        "blocked SIGTERM, as inherited from a supervisor",
        "a working folder with bytes that are no UTF-8",
    ],
)
async def test_a_strange_place_is_as_good_as_any(words: str) -> None:
    note = await play_in(words)
    assert "skipped" not in note


async def test_two_runs_go_on_by_themselves_after_their_server_was_killed() -> None:
    if reason := missing_for(TROUBLES[0]):
        pytest.skip(reason)
    await survive(TROUBLES[0])


def test_there_are_more_than_thirty_strange_places() -> None:
    assert len(PLACES) > 50


def test_the_report_counts_what_held_and_tells_each_case_that_failed() -> None:
    held = [Line("matrix", "PUT", f"{fault}, once", fault, "ok", 1.0) for fault in range(40)]
    failed = Line("death", "ledger.claim.after (fresh)", "kill -9", 7, "ViolationError: 3 | 4\nare wrong", 2.0)
    text = report([*held, failed], 1)
    assert "**41 cases, 1 violations**" in text
    assert "| PUT | 40 | 40 | 40 |" in text
    assert "| death | ledger.claim.after (fresh) | kill -9 | 7 | ViolationError: 3 \\| 4 are wrong |" in text
    assert "## Violations" not in report(held, 1)
    assert len(rows([*held, failed]).splitlines()) == 41


async def test_a_full_slow_line_is_used_and_nothing_is_sent_twice() -> None:
    if reason := missing():
        pytest.skip(reason)
    await send_over(QUICK)


def test_each_row_of_the_report_has_a_name_of_its_own_and_is_looked_for() -> None:
    planned = [*side_by_side(1, [("fresh", "ledger.claim.after", 1)]), *soak(1, 200), *watched_soak(1), *alone(1)]
    assert len({act.name for act in planned}) == len(planned) > 1000
    lines = [Line(*act.name, "ok", 0.0) for act in planned]
    assert not unplayed(planned, lines)
    assert [row.result for row in unplayed(planned, [*lines[1:], lines[-1]])] == [
        "was played 0 times",
        "was played 2 times",
    ]
