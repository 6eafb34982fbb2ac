"""Sizes and durations as people write them: decimal and binary kept apart, nonsense refused, nothing lost on the way back."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.units import GIB, KIB, MIB, format_duration, format_size, iso_utc, parse_duration, parse_size

FACTORS = {
    "": 1,
    "B": 1,
    "k": 10**3,
    "kB": 10**3,
    "M": 10**6,
    "GB": 10**9,
    "T": 10**12,
    "KiB": KIB,
    "MiB": MIB,
    "gib": GIB,
}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
NOT_SIZES = ["", " ", "MiB", "-1", "1e3", "64XB", "6 4M", "1iB", "0x10", "1,5M", "1.M", ".5M", "64MiBs", "nan", "inf"]
NOT_DURATIONS = ["", "s", "-1s", "1 week", "1h30m", "1e3", "0:30", "1,5s", "nan", "inf", "1us"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("50M", 50_000_000),
        ("50MB", 50_000_000),
        ("64MiB", 67_108_864),
        ("64mib", 67_108_864),
        (" 1.5 GB ", 1_500_000_000),
        ("1TB", 10**12),
        ("1PiB", 1 << 50),
        ("0.5KiB", 512),
        ("172GB", 172_000_000_000),
        pytest.param("2.01k", 2010),
    ],
)
def test_a_size_is_read_with_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.integers(0, 9_000), st.sampled_from(sorted(FACTORS)))
def test_a_whole_number_of_any_unit_is_exact(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * FACTORS[unit]


@pytest.mark.parametrize("text", NOT_SIZES)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size: write 64MiB"):
        parse_size(text)


def test_a_size_beyond_all_bounds_is_a_number_or_refused() -> None:
    text = "9" * 400
    with suppress(ValueError):
        assert parse_size(text) == int(text)


@given(st.integers(0, 10**15))
def test_a_formatted_size_reads_back_within_half_of_its_last_digit(size: int) -> None:
    text = format_size(size)
    unit = FACTORS.get(text.split()[1], 10**12)
    assert abs(parse_size(text) - size) <= Decimal(unit) / 20 + 1


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (67_108_864, "67.1 MB"),
        (172_000_000_000, "172.0 GB"),
        (71_400_000_000_000, "71.4 TB"),
        (2 * 10**15, "2.0 PB"),
        pytest.param(999_999, "1.0 MB"),
    ],
)
def test_a_size_is_shown_in_the_unit_that_keeps_it_short(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("15m", 900), ("24h", 86400), ("7d", 604800), ("1", 1), (" 2.5 s", 2.5), ("60S", 60)],
)
def test_a_duration_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", NOT_DURATIONS)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: write 500ms"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (45.4, "45s"),
        (59.6, "1m00s"),
        (725, "12m05s"),
        (3599.5, "1h00m"),
        (11220, "3h07m"),
        (187200, "2d04h"),
    ],
)
def test_a_duration_is_shown_in_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**8))
def test_a_formatted_duration_loses_less_than_its_smallest_unit(seconds: int) -> None:
    shown = re.findall(r"(\d+)([dhms])", format_duration(seconds))
    assert "".join(number + unit for number, unit in shown) == format_duration(seconds)
    lost = seconds - sum(int(number) * SECONDS[unit] for number, unit in shown)
    assert 0 <= lost < SECONDS[shown[-1][1]]


@given(st.integers(0, 4_102_444_800_000))
def test_a_time_in_json_is_utc_and_keeps_its_milliseconds(epoch_ms: int) -> None:
    text = iso_utc(epoch_ms)
    assert text is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert (datetime.fromisoformat(text) - datetime.fromisoformat("1970-01-01T00:00Z")) / timedelta(
        milliseconds=1
    ) == epoch_ms


def test_no_time_is_null() -> None:
    assert iso_utc(None) is None
