"""The 33 datasets that the vendor documents, for help texts, suggestions and expectations only: the listing is the truth.

Source: facts of 2026-11-23 from the vendor's flat-files pages; sizes are those of days in May 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches

KB, MB, GB = 10**3, 10**6, 10**9


@dataclass(frozen=True, slots=True)
class Documented:
    """A dataset as the vendor documents it.

    Attributes:
        dataset: its name.
        first: the date of its first file, as far as it is known.
        day_bytes: the least and the most that a day usually takes, compressed.
    """

    dataset: str
    first: date
    day_bytes: tuple[int, int]


_Sizes = dict[str, tuple[float, float]]
_STOCKS: _Sizes = {
    "day_aggs_v1": (0.3 * MB, 0.3 * MB),
    "minute_aggs_v1": (27 * MB, 30 * MB),
    "trades_v1": (3 * GB, 3.7 * GB),
    "quotes_v1": (6 * GB, 10 * GB),
}
_OPTIONS: _Sizes = {
    "day_aggs_v1": (4 * MB, 4 * MB),
    "minute_aggs_v1": (24 * MB, 29 * MB),
    "trades_v1": (62 * MB, 78 * MB),
    "quotes_v1": (106 * GB, 172 * GB),
}
_INDICES: _Sizes = {
    "day_aggs_v1": (0.3 * MB, 0.3 * MB),
    "minute_aggs_v1": (0.1 * GB, 0.1 * GB),
    "values_v1": (2.5 * GB, 2.5 * GB),
}
_FOREX: _Sizes = {
    "day_aggs_v1": (30 * KB, 30 * KB),
    "minute_aggs_v1": (1.5 * MB, 16 * MB),
    "quotes_v1": (17 * MB, 354 * MB),
}
_CRYPTO: _Sizes = {
    "day_aggs_v1": (12 * KB, 12 * KB),
    "minute_aggs_v1": (2 * MB, 2 * MB),
    "trades_v1": (31 * MB, 39 * MB),
}
_FUTURES: _Sizes = {
    "session_aggs_v1": (20 * KB, 20 * KB),
    "minute_aggs_v1": (1.5 * MB, 1.5 * MB),
    "trades_v1": (6 * MB, 56 * MB),
    "quotes_v1": (0.2 * GB, 4 * GB),
}
_PREFIXES: dict[str, tuple[date, _Sizes]] = {
    "us_stocks_sip": (date(2003, 9, 10), _STOCKS),
    "us_options_opra": (date(2014, 6, 2), _OPTIONS),
    "us_indices": (date(2023, 2, 14), _INDICES),
    "global_forex": (date(2009, 9, 25), _FOREX),
    "global_crypto": (date(2013, 11, 1), _CRYPTO),
    **{f"us_futures_{venue}": (date(2017, 4, 3), _FUTURES) for venue in ("cme", "cbot", "comex", "nymex")},
}
_LATER = {"us_options_opra/quotes_v1": date(2022, 3, 7)}

CATALOGUE: dict[str, Documented] = {
    dataset: Documented(dataset, _LATER.get(dataset, first), (round(least), round(most)))
    for prefix, (first, sizes) in _PREFIXES.items()
    for kind, (least, most) in sizes.items()
    for dataset in [f"{prefix}/{kind}"]
}
DATASETS: tuple[str, ...] = tuple(CATALOGUE)


def suggestion(wanted: str, known: list[str]) -> str:
    """`` (did you mean ...?)`` for a mistyped dataset, or nothing."""
    if wanted in DATASETS and not known:
        # The name is documented and not a typing error: this source does not list it.
        return ""
    close = get_close_matches(wanted, known or DATASETS, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
