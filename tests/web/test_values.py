"""The values that the templates show: the state, the chart, remedies, the queue, the rate, and the cache of all that."""

from __future__ import annotations

import asyncio
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.compare import SOURCE_GONE
from polyb2.core.status import Status
from polyb2.flow.mirror import DRAINING, InFlight
from polyb2.ledger.status_report import FileAtWork, StatusReport, Tally
from polyb2.waits import loop_s
from polyb2.web.failures import remedy_of
from polyb2.web.overview import IN_FLIGHT_SHOWN, overview_of
from polyb2.web.rate import SAMPLE_S, Rates, chart_of
from polyb2.web.snapshot import FileInFlight, ProcessState, SingleFlight, Snapshot
from tests.conftest import key
from tests.web.leaping import Leaping

FILE = FileInFlight("key", 10, 5, 1)
ROW = FileAtWork("key", 10, 4, 1, "worker")


def process(
    *files: FileInFlight, problems: tuple[str, ...] = (), draining: bool = False, rate: float | None = None
) -> ProcessState:
    return ProcessState(draining, problems, files, len(files), 32, rate, [])


def snapshot(status: Status | None = None, *, left: int = 0, rate: float | None = None) -> Snapshot:
    totals = Tally(files=int(status is not None), bytes_left=left)
    if status is not None:
        totals.by_status[status]["files"] = 1
    return Snapshot(0, StatusReport(totals, in_flight=[ROW] * (left > 0), rate_bytes_per_s=rate), {}, 0, [])


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (None, process(), "Nothing queued yet"),
        (Status.COMPLETED, process(), "Up to date"),
        (Status.FAILED_UPLOAD, process(), "Waiting to try again"),
        (Status.PROCESSING, process(FILE), "Transferring"),
        (Status.PENDING, process(problems=("a cap",)), "Held up"),
        (Status.PENDING, process(FILE, problems=("a cap",)), "In trouble"),
        (Status.PENDING, process(FILE, problems=("a cap", DRAINING), draining=True), "Stopping"),
    ],
)
def test_the_state_is_a_word(status: Status | None, state: ProcessState, words: str) -> None:
    shown = overview_of(snapshot(status), state)
    assert shown.state.words == words
    assert shown.problems == [problem for problem in state.problems if problem != DRAINING]


@pytest.mark.parametrize(
    ("left", "own", "ledger", "left_s", "note"),
    [
        (0, 5.0, 5.0, None, "nothing to send"),
        (100, None, None, None, "no rate yet"),
        (3600, None, 1.0, 3600.0, "until Thu 01:00 UTC"),
        (100, 10.0, 1.0, 10.0, "until Thu 00:00 UTC"),
        (10**6, 1.0, None, 1e6, "at this rate"),
    ],
)
def test_the_time_left_is_by_the_greater_rate(
    left: int, own: float | None, ledger: float | None, left_s: float | None, note: str
) -> None:
    """The ledger's counts other processes too; this one's counts what has no receipt yet."""
    shown = overview_of(snapshot(left=left, rate=ledger), process(rate=own))
    assert (shown.left_s, shown.left_note) == (left_s, note)


def test_files_of_other_processes_are_in_flight_as_well_and_none_is_there_twice() -> None:
    shown = overview_of(snapshot(left=1), process(FILE))
    assert (shown.in_flight, shown.in_flight_count) == ([FILE], 1)
    others = overview_of(snapshot(left=1), process(*[FileInFlight(f"{number}", 1, 0, 1) for number in range(20)]))
    assert (len(others.in_flight), others.in_flight_count) == (IN_FLIGHT_SHOWN, 21)


@pytest.mark.parametrize("rates", [[0.0, 0.0], [5e6, 7.5e6, 1e6], [1e12, 1.0]])
def test_a_chart_says_in_words_what_it_draws_and_stays_inside(rates: list[float]) -> None:
    chart = chart_of([(10.0 * (len(rates) - number), rate) for number, rate in enumerate(rates)])
    assert chart is not None
    points = [tuple(map(float, pair.split(","))) for pair in chart.line.split()]
    assert len(points) == len(rates)
    assert all(0 <= x <= 1000 and 0 <= y <= 100 for x, y in points)
    assert chart.area.startswith(f"{points[0][0]:.0f},100 ")
    assert chart.area.endswith(f" {points[-1][0]:.0f},100")
    assert f"{10 * len(rates)}s: " in chart.words


@pytest.mark.parametrize("points", [[], [(5.0, 1.0)]])
def test_fewer_than_two_samples_make_no_chart(points: list[tuple[float, float]]) -> None:
    assert chart_of(points) is None


async def test_the_time_left_is_by_what_this_attempt_sent() -> None:
    """An earlier attempt's bytes came at no rate of this one."""
    entry = InFlight("key", "dataset", size=100, attempt=2, kept_bytes=40, settled_bytes=40)
    assert entry.left_s is None
    entry.settled_bytes, entry.began_s = 60, loop_s() - 10
    assert entry.left_s == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize(
    ("status", "reason", "several", "line"),
    [
        (Status.FAILED_UPLOAD, "stalled", False, f"polyb2 retry {key('2024-01-02')}"),
        (Status.PERMANENT_FAILURE, "mismatch", False, f"polyb2 retry {key('2024-01-02')}"),
        (Status.NOT_ENTITLED, "forbidden", False, f"polyb2 retry --status not_entitled {key('2024-01-02')}"),
        (
            Status.NOT_ENTITLED,
            "forbidden",
            True,
            "polyb2 retry --status not_entitled --dataset us_stocks_sip/day_aggs_v1",
        ),
        (
            Status.PERMANENT_FAILURE,
            SOURCE_GONE,
            False,
            "polyb2 discover --dates 2024-01-02 --dataset us_stocks_sip/day_aggs_v1",
        ),
        (Status.COMPLETED, None, False, None),
    ],
)
def test_every_failure_has_its_remedy(status: str, reason: str | None, several: bool, line: str | None) -> None:
    remedy = remedy_of(key("2024-01-02"), status, reason, several=several)
    assert remedy.words
    assert remedy.command == line


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1))
def test_a_command_can_be_pasted_whatever_the_name_holds(name: str) -> None:
    strange = f"{name}/day_aggs_v1/2024/01/2024-01-02.csv.gz"
    for several in (False, True):
        command = remedy_of(strange, Status.PERMANENT_FAILURE, "mismatch", several=several).command
        assert command is not None
        assert shlex.split(command)[-1] in {strange, f"{name}/day_aggs_v1"}


def test_the_rate_is_that_of_the_last_minute() -> None:
    """A slow start counts no longer once it is more than a minute ago."""
    count = 0

    async def sampled() -> tuple[float | None, float | None, list[tuple[float, float]]]:
        nonlocal count
        rates, loop = Rates(lambda: count), asyncio.get_running_loop()
        assert isinstance(loop, Leaping)
        before = rates.lately()
        sampling = asyncio.create_task(rates.run())
        await asyncio.sleep(0)
        for per_second in [10] * 10 + [1000] * 20:
            loop.ahead_s += SAMPLE_S
            count += int(per_second * SAMPLE_S)
            while rates.points(1000)[-1:] == [] or rates.points(1000)[-1][0] > SAMPLE_S / 2:
                await asyncio.sleep(0)
        sampling.cancel()
        return before, rates.lately(), rates.points(10)

    with asyncio.Runner(loop_factory=Leaping) as runner:
        before, lately, points = runner.run(sampled())
    assert before is None
    assert lately == pytest.approx(1000, rel=0.05)
    assert len(points) <= 10
    assert points[0][1] == pytest.approx(10, rel=0.05)
    assert points[-1][1] == pytest.approx(1000, rel=0.05)
    assert points[-1][0] == pytest.approx(0, abs=SAMPLE_S)


async def test_a_value_is_made_once_for_all_who_ask() -> None:
    made = []

    async def make() -> int:
        await asyncio.sleep(0)
        made.append(1)
        return len(made)

    cache = SingleFlight(make, fresh_s=1000)
    assert await asyncio.gather(*(cache.get() for _ in range(20))) == [1] * 20
    stale = SingleFlight(make, fresh_s=0)
    assert (await stale.get_stale(), await stale.get_stale()) == (2, 2)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "renewal"))
    assert await stale.get_stale() == 3
    await stale.close()
