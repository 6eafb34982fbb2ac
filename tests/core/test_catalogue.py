"""The catalogue that help texts and suggestions use, against the vendor's list."""

from __future__ import annotations

from datetime import date

import pytest

from polyb2.core.catalogue import CATALOGUE, DATASETS, suggestion
from polyb2.core.keys import check_pattern, is_pattern


def test_the_catalogue_is_the_vendors_33_datasets_of_nine_prefixes() -> None:
    assert len(set(DATASETS)) == len(DATASETS) == 33
    assert len({dataset.split("/")[0] for dataset in DATASETS}) == 9
    assert {"us_options_opra/quotes_v1", "us_indices/values_v1", "us_futures_comex/session_aggs_v1"} <= set(DATASETS)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_of_the_catalogue_may_be_selected(dataset: str) -> None:
    assert check_pattern(dataset) == dataset
    assert not is_pattern(dataset)


@pytest.mark.parametrize(
    ("wanted", "known", "words"),
    [
        ("us_stock_sip/day_aggs_v1", [], " (did you mean us_stocks_sip/day_aggs_v1?)"),
        ("us_stocks_sip/day_agg_v1", ["us_stocks_sip/new_v1"], " (did you mean us_stocks_sip/new_v1?)"),
        ("zzz/qqq", [], ""),
    ],
)
def test_a_mistyped_dataset_is_met_with_the_nearest_that_is_known(wanted: str, known: list[str], words: str) -> None:
    assert suggestion(wanted, known) == words


def test_the_catalogue_says_when_a_dataset_begins_and_what_a_day_takes() -> None:
    quotes = CATALOGUE["us_options_opra/quotes_v1"]
    assert (quotes.first, quotes.day_bytes) == (date(2022, 3, 7), (106 * 10**9, 172 * 10**9))
    assert all(0 < least <= most for least, most in (item.day_bytes for item in CATALOGUE.values()))
