"""Keys of the layout, foreign keys, and globs of two segments."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.keys import FileName, check_pattern, is_pattern, matches, parse_key

SEGMENTS = st.text("abzAZ019_-.*? \\é\n", min_size=1, max_size=12)
DAYS = st.dates(date(1900, 1, 1))
GLOBS = st.text("ab*?/", max_size=8)
FOREIGN = [
    "",
    "a/b",
    "a/b/2024/01/",
    "b/2024/01/2024-01-02.csv.gz",
    "a/b/c/2024/01/2024-01-02.csv.gz",
    "/b/2024/01/2024-01-02.csv.gz",
    "a//2024/01/2024-01-02.csv.gz",
    "a/b/2024/02/2024-01-02.csv.gz",
    "a/b/2023/01/2024-01-02.csv.gz",
    "a/b/2024/1/2024-1-2.csv.gz",
    "a/b/2024/02/2024-02-30.csv.gz",
    "a/b/2023/02/2023-02-29.csv.gz",
    "a/b/2024/13/2024-13-01.csv.gz",
    "a/b/0000/01/0000-01-01.csv.gz",
    "a/b/2024/01/2024-01-02.csv",
    "a/b/2024/01/2024-01-02.csv.gz.tmp",
    "a/b/2024/01/2024-01-02.csv.gz\n",
    "a/b/2024/01/2024-01-02.CSV.GZ",
    "a/b/2024/01/2024-01-02xcsv.gz",
    "a/b/2024/01/2024-01-02.csvxgz",
    "a/b/2024/01/x2024-01-02.csv.gz",
    "a/b/2024/01/2024-01-02.csv.gz".replace("2", "\N{ARABIC-INDIC DIGIT TWO}"),
]


@given(SEGMENTS, SEGMENTS, DAYS)
def test_a_key_of_the_layout_reads_back_as_it_was_written(prefix: str, kind: str, day: date) -> None:
    name = FileName(f"{prefix}/{kind}", day)
    assert parse_key(name.key) == name


@given(SEGMENTS, SEGMENTS, st.from_regex(r"\d{4}/\d\d/\d{4}-\d\d-\d\d", fullmatch=True), st.sampled_from(["", "x"]))
def test_a_key_that_parses_is_never_changed_by_it(prefix: str, kind: str, path: str, tail: str) -> None:
    name = parse_key(f"{prefix}/{kind}/{path}.csv.gz{tail}")
    assert name is None or name.date.year < 1000 or name.key == f"{prefix}/{kind}/{path}.csv.gz{tail}"


def test_a_year_before_1000_keeps_its_zeros() -> None:
    assert FileName("a/b", date(999, 1, 2)).key == "a/b/0999/01/0999-01-02.csv.gz"


@pytest.mark.parametrize("key", FOREIGN)
def test_a_foreign_key_is_nothing_of_ours(key: str) -> None:
    assert parse_key(key) is None


def test_a_leap_day_is_a_day() -> None:
    assert parse_key("a/b/2024/02/2024-02-29.csv.gz") == FileName("a/b", date(2024, 2, 29))


def test_ancestor_keys_have_the_month_folder() -> None:
    key = FileName("us_stocks_sip/day_aggs_v1", date(2024, 1, 2)).key
    assert key == "us_stocks_sip/day_aggs_v1/2024/01/2024-01-02.csv.gz"
    assert parse_key("us_stocks_sip/day_aggs_v1/2024/2024-01-02.csv.gz") is None


def test_ancestor_two_datasets_of_one_day_never_collide() -> None:
    day = date(2024, 1, 2)
    assert FileName("us_stocks_sip/day_aggs_v1", day).key != FileName("us_options_opra/day_aggs_v1", day).key


@pytest.mark.parametrize(
    ("pattern", "dataset", "named"),
    [
        ("us_stocks_sip/*", "us_stocks_sip/trades_v1", True),
        ("*/day_aggs_v1", "us_options_opra/day_aggs_v1", True),
        ("us_futures_*/*_v1", "us_futures_cme/quotes_v1", True),
        ("us_futures_c[mb]*/trades_v?", "us_futures_cbot/trades_v1", True),
        ("us_stocks_sip/day_aggs_v1", "us_stocks_sip/day_aggs_v1", True),
        ("us_stocks_sip/day_aggs_v1", "us_stocks_sip/day_aggs_v10", False),
        ("us_stocks_sip/day_aggs", "us_stocks_sip/day_aggs_v1", False),
        ("US_STOCKS_SIP/*", "us_stocks_sip/trades_v1", False),
        ("us_stocks_sip/*", "us_stocks_sip/trades_v1/2024", False),
        ("*", "us_stocks_sip/trades_v1", False),
        ("us_stocks*", "us_stocks_sip/trades_v1", False),
        ("[x]/day_aggs_v1", "[x]/day_aggs_v1", True),
        ("[x]", "[x]", True),
    ],
)
def test_a_glob_names_datasets(pattern: str, dataset: str, named: bool) -> None:
    assert matches(pattern, dataset) is named


@given(GLOBS, st.text("ab/", max_size=8))
def test_a_star_never_crosses_a_slash(pattern: str, dataset: str) -> None:
    oracle = pattern.replace("*", "[^/]*").replace("?", "[^/]")
    assert matches(pattern, dataset) is (re.fullmatch(oracle, dataset) is not None)


@pytest.mark.parametrize("pattern", ["us_stocks_sip/day_aggs_v1", "us_stocks_sip/*", "*/*", "us_*/[!q]*"])
def test_two_segments_are_a_pattern(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "pattern", ["", "*", "us_stocks_sip", "a/b/c", "/b", "a/", "a//b", "a/b/", "../..", "a/.", "a/b\n"]
)
def test_anything_but_two_segments_is_refused_with_an_example(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"write us_stocks_sip/day_aggs_v1 or a glob"):
        check_pattern(pattern)


@pytest.mark.parametrize(("name", "glob"), [("a/b", False), ("a/*", True), ("a?/b", True), ("[ab]/c", True)])
def test_a_glob_is_told_from_a_name(name: str, glob: bool) -> None:
    assert is_pattern(name) is glob
