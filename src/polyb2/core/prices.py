"""B2's prices: a small table that the setting ``POLYB2_PRICES`` replaces, as prices change and differ by contract.

Source of the default: third parties' reading of Backblaze's price page, mid-2026. Uploading and its requests are free on
pay-as-you-go; older pages name 0.0004 per 1,000 class B requests (HEAD, GET) and 0.004 per 1,000 class C requests (lists).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from polyb2.core.units import parse_size

TB = 10**12
DEFAULT_PRICES = "storage=6.95,free=10GB,class_a=0,class_b=0,class_c=0,currency=USD"
_CURRENCY = re.compile(r"[A-Za-z]{1,5}|[$€£¥]")


@dataclass(frozen=True, slots=True)
class Prices:
    """The table.

    Attributes:
        storage: money for a TB (10^12 bytes) and 30 days.
        free: bytes stored free of charge.
        class_a: money for 1,000 requests that write.
        class_b: money for 1,000 HEADs and GETs.
        class_c: money for 1,000 listings.
        currency: what the money is called.
    """

    storage: float = 6.95
    free: int = 10 * 10**9
    class_a: float = 0.0
    class_b: float = 0.0
    class_c: float = 0.0
    currency: str = "USD"

    def month(self, stored_bytes: int) -> float:
        """Money for 30 days of storage."""
        return max(0, stored_bytes - self.free) / TB * self.storage


def parse_prices(text: str) -> Prices:
    """Parse a table like ``storage=6.95,free=10GB``; what it leaves out keeps its default.

    Raises:
        ValueError: a word does not parse; the message says which, and what to write.
    """
    given: dict[str, Any] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        name, _, value = (piece.strip() for piece in word.partition("="))
        try:
            given[name] = _READ[name](value)
        except (KeyError, ValueError):
            raise ValueError(f"{word!r} is not a price: write {DEFAULT_PRICES}") from None
    return Prices(**given)


def _money(text: str) -> float:
    money = float(text)
    if not (math.isfinite(money) and money >= 0):
        raise ValueError
    return money


def _currency(text: str) -> str:
    if not _CURRENCY.fullmatch(text):
        raise ValueError
    return text


_READ: dict[str, Callable[[str], Any]] = {
    "storage": _money,
    "free": parse_size,
    "class_a": _money,
    "class_b": _money,
    "class_c": _money,
    "currency": _currency,
}
