"""Hours and money of a plan, against sums done by hand, and prices that do not parse."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.estimate import IDLE_S, Estimate, Rate, Requests, measured
from polyb2.core.prices import DEFAULT_PRICES, TB, Prices, parse_prices

GB = 10**9


def estimate(rate: Rate | None = None, prices: Prices | None = None, queued: int = TB, most: int = TB) -> Estimate:
    requests = Requests(class_a=20_000, class_b=10_000, class_c=2_000)
    return Estimate(queued, TB // 2, 510 * GB, most, requests, rate, prices or Prices())


def test_the_default_table_is_the_one_of_the_code() -> None:
    assert parse_prices(DEFAULT_PRICES) == parse_prices("") == Prices()


def test_what_a_table_leaves_out_is_as_by_default() -> None:
    found = parse_prices(" storage = 6 , free=1 TiB,,class_b=0.0004,currency=€ ")
    assert found == Prices(storage=6, free=1 << 40, class_b=0.0004, currency="€")


@pytest.mark.parametrize(
    "word",
    ["storage", "storage=", "storage=cheap", "storage=-1", "storage=nan", "class_c=inf", "free=lots", "class_d=1",
     "currency=[red]", "=5", "6.95", '{"storage": 6}'],
)  # fmt: skip
def test_a_word_that_is_no_price_is_named_with_what_to_write(word: str) -> None:
    with pytest.raises(ValueError, match=r"is not a price: write storage=6\.95") as raised:
        parse_prices(f"storage=1,{word}")
    assert repr(word) in str(raised.value)


@given(st.text(max_size=40))
def test_any_text_is_a_table_or_one_line(text: str) -> None:
    told = ""
    try:
        assert parse_prices(text).month(10**15) >= 0
    except ValueError as error:
        told = str(error)
    assert "\n" not in told


def test_storage_costs_beyond_what_is_free() -> None:
    prices = Prices()
    assert [prices.month(size) for size in (0, 10 * GB, TB + 10 * GB)] == [0, 0, 6.95]


def test_a_plan_is_hours_of_its_rate_and_money_of_its_prices() -> None:
    found = estimate(Rate(100e6), parse_prices("class_a=0.001,class_b=0.0004,class_c=0.004"))
    shown = json.loads(json.dumps(found.as_json()))
    assert shown["rate_from"] == "given"
    assert shown["hours"] == pytest.approx(TB / 100e6 / 3600)
    assert shown["hours_with_waiting"] == pytest.approx(1.5 * TB / 100e6 / 3600)
    assert (shown["bytes_stored"], shown["bytes_stored_after"]) == (510 * GB, 2010 * GB)
    assert (shown["month_cost"], shown["month_cost_after"]) == (pytest.approx(3.475), pytest.approx(13.9))
    assert shown["requests_cost"] == pytest.approx(0.02 + 0.004 + 0.008)


def test_without_a_rate_there_are_no_hours() -> None:
    shown = estimate(None).as_json()
    assert [shown[name] for name in ("rate_bytes_per_s", "rate_from", "rate_measured_s", "hours")] == [None] * 4


@pytest.mark.parametrize(("queued", "within"), [(TB, True), (TB + 1, False)])
def test_the_guard_lets_a_plan_pass_up_to_the_limit(queued: int, within: bool) -> None:
    assert estimate(queued=queued).is_within_limit is within


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], None),
        ([(100, 50)], None),
        ([(100, 50), (108, 50)], None),  # nine seconds of work
        ([(100, 50), (109, 50)], Rate(10, 10)),
        ([(100, 610), (100 + IDLE_S, 610)], Rate(20, 61)),
        ([(100, 610), (100 + 50 * IDLE_S, 610)], Rate(20, 61)),  # a pause is no slowness
    ],
)
def test_the_rate_is_that_of_the_work_that_is_remembered(history: list[tuple[int, int]], expected: Rate | None) -> None:
    assert measured(history) == expected


@given(st.dictionaries(st.integers(0, 3600), st.integers(1, 10**9), min_size=1))
def test_a_measured_rate_lies_between_that_of_the_whole_time_and_that_of_the_busy_seconds(
    seconds: dict[int, int],
) -> None:
    history = sorted(seconds.items())
    found = measured(history)
    if found is not None:
        total, elapsed_s = sum(seconds.values()), history[-1][0] - history[0][0] + 1
        assert total / elapsed_s <= found.bytes_per_s * (1 + 1e-9)
        assert found.bytes_per_s <= total / len(history) * (1 + 1e-9)
