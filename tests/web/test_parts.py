"""The parts of the page that are plain functions: markup, chart, cures, samples of the rate."""

from __future__ import annotations

import asyncio
import re
import shlex
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polyb2.core.compare import SOURCE_GONE
from polyb2.core.status import Status
from polyb2.flow.mirror import InFlight
from polyb2.web.chart import rate_chart
from polyb2.web.cures import cure
from polyb2.web.markup import h
from polyb2.web.rates import SAMPLE_S, Rates, Sample
from polyb2.web.sharing import Shared
from tests.conftest import key


@given(st.text())
@example("<script>alert(1)</script>")
@example('" onload="alert(1)')
def test_text_stays_text_wherever_it_stands(text: str) -> None:
    shown = h("p", text, title=text)
    inner = re.fullmatch(r'<p title=(?:"([^"<>]*)"|([A-Za-z0-9_./-]+))>([^<>]*)</p>', shown, re.DOTALL)
    assert inner, shown


def test_only_what_was_made_as_markup_is_markup() -> None:
    assert h("p", h("b", "<"), ["&", None, 3]) == "<p><b>&lt;</b>&amp;3</p>"
    assert h("td", "x", class_="a b", hidden=True, title=None, open=False) == '<td class="a b" hidden>x'
    assert h("a", "x", href="/a/") == '<a href="/a/">x</a>'


@pytest.mark.parametrize("rates", [[0.0, 0.0], [5e6, 7.5e6, 1e6], [1e12, 1.0]])
def test_a_chart_says_in_words_what_it_draws_and_stays_inside(rates: list[float]) -> None:
    drawn = rate_chart([(10.0 * (len(rates) - number), rate) for number, rate in enumerate(rates)])
    (line,) = re.findall(r'points="([^"]+)" class=line', drawn)
    assert all(0 <= float(number) <= 1000 for pair in line.split() for number in pair.split(","))
    assert all(0 <= float(pair.split(",")[1]) <= 100 for pair in line.split())
    assert f"{10 * len(rates)}s: " in drawn


def test_a_chart_without_samples_says_so() -> None:
    assert "begins with the first samples" in rate_chart([])


def test_the_time_left_is_by_what_this_attempt_sent() -> None:
    """What an earlier attempt left behind came at no rate of ours."""
    entry = InFlight("key", "dataset", size=100, attempt=2, kept_bytes=40, settled_bytes=40)
    assert entry.left_s is None
    entry.settled_bytes, entry.began_s = 60, time.monotonic() - 10
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
def test_every_failure_has_its_cure(status: str, reason: str | None, several: bool, line: str | None) -> None:
    words, command = cure(key("2024-01-02"), status, reason, several=several)
    assert words
    assert command == line


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0"), min_size=1))
def test_a_command_can_be_pasted_whatever_the_name_holds(name: str) -> None:
    strange = f"{name}/day_aggs_v1/2024/01/2024-01-02.csv.gz"
    for several in (False, True):
        _, command = cure(strange, Status.PERMANENT_FAILURE, "mismatch", several=several)
        assert command is not None
        assert shlex.split(command)[-1] in {strange, f"{name}/day_aggs_v1"}


async def test_the_rate_is_that_of_the_last_minute() -> None:
    count = [0]
    rates = Rates(lambda: count[0])
    assert rates.lately() is None
    now_s = asyncio.get_running_loop().time()
    rates._samples.extend(Sample(now_s - ago_s, 1000 * (100 - ago_s)) for ago_s in range(100, 0, -5))
    count[0] = 100_000
    assert rates.lately() == pytest.approx(1000, rel=0.01)
    points = rates.points(10)
    assert len(points) <= 10
    assert all(rate == pytest.approx(1000) for _, rate in points)
    assert points[-1][0] == pytest.approx(SAMPLE_S, abs=1)


async def test_a_shared_value_is_made_once_for_all_who_ask() -> None:
    made = []

    async def make() -> int:
        await asyncio.sleep(0)
        made.append(1)
        return len(made)

    shared = Shared(make, fresh_s=1000)
    assert await asyncio.gather(*(shared.get() for _ in range(20))) == [1] * 20
    stale = Shared(make, fresh_s=0)
    assert (await stale.get_soon(), await stale.get_soon()) == (2, 2)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "renewal"))
    assert await stale.get_soon() == 3
    await stale.close()
