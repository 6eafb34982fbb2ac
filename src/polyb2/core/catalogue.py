"""The 33 datasets that the vendor documents, for help texts and suggestions only: the listing is the truth.

Source: facts of 2026-11-23 from the vendor's flat-files pages.
"""

from __future__ import annotations

from difflib import get_close_matches

_TYPES: dict[str, tuple[str, ...]] = {
    "us_stocks_sip": ("day_aggs_v1", "minute_aggs_v1", "trades_v1", "quotes_v1"),
    "us_options_opra": ("day_aggs_v1", "minute_aggs_v1", "trades_v1", "quotes_v1"),
    "us_indices": ("day_aggs_v1", "minute_aggs_v1", "values_v1"),
    "global_forex": ("day_aggs_v1", "minute_aggs_v1", "quotes_v1"),
    "global_crypto": ("day_aggs_v1", "minute_aggs_v1", "trades_v1"),
    **{
        f"us_futures_{venue}": ("session_aggs_v1", "minute_aggs_v1", "trades_v1", "quotes_v1")
        for venue in ("cme", "cbot", "comex", "nymex")
    },
}
DATASETS: tuple[str, ...] = tuple(f"{prefix}/{kind}" for prefix, kinds in _TYPES.items() for kind in kinds)


def suggestion(wanted: str, known: list[str]) -> str:
    """`` (did you mean ...?)`` for a mistyped dataset, or nothing."""
    if wanted in DATASETS and not known:
        # It is no slip: this source does not list it.
        return ""
    close = get_close_matches(wanted, known or DATASETS, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
