"""The cost of a plan: hours at a rate, money for storage in B2, requests, and the guard of its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from polyb2.core.prices import Prices

IDLE_S = 60
"""A longer time without a receipt is a pause and not slowness."""
MEASURED_S_MIN = 10
"""A shorter measurement is not extrapolated to months."""
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes per second, and the seconds of work over which they were measured; None where the user gave the rate."""

    bytes_per_s: float
    measured_s: int | None = None


@dataclass(frozen=True, slots=True)
class Requests:
    """The number of requests to B2 that a plan makes, approximately: the source's own part sizes are not known before."""

    class_a: int = 0
    class_b: int = 0
    class_c: int = 0

    def cost(self, prices: Prices) -> float:
        classes = (self.class_a, prices.class_a), (self.class_b, prices.class_b), (self.class_c, prices.class_c)
        return sum(count / 1000 * price for count, price in classes)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cost of a plan.

    Attributes:
        bytes_queued: what the plan would queue.
        bytes_waiting: what waits in the queue already, whatever its dates.
        bytes_stored: what the mirror holds in B2 before the plan.
        bytes_max: ``POLYB2_MAX_PLAN_BYTES``.
        requests: that the plan makes.
        rate: None where none was given nor measured.
        prices: of B2.
    """

    bytes_queued: int
    bytes_waiting: int
    bytes_stored: int
    bytes_max: int
    requests: Requests
    rate: Rate | None
    prices: Prices

    @property
    def bytes_stored_after(self) -> int:
        """Bytes in B2 after everything is sent; older versions of replaced files stay there."""
        return self.bytes_stored + self.bytes_waiting + self.bytes_queued

    @property
    def is_within_limit(self) -> bool:
        """Tell if the plan is queued without confirmation."""
        return self.bytes_queued <= self.bytes_max

    def hours(self, size: int) -> float | None:
        """Hours that this many bytes take at the rate."""
        return size / self.rate.bytes_per_s / _HOUR_S if self.rate else None

    def as_json(self) -> dict[str, Any]:
        """``estimate`` of ``plan --json``."""
        measured_s = self.rate.measured_s if self.rate else None
        return {
            "rate_bytes_per_s": self.rate and self.rate.bytes_per_s,
            "rate_from": self.rate and ("given" if measured_s is None else "measured"),
            "rate_measured_s": measured_s,
            "hours": self.hours(self.bytes_queued),
            "bytes_waiting": self.bytes_waiting,
            "hours_with_waiting": self.hours(self.bytes_queued + self.bytes_waiting),
            "bytes_stored": self.bytes_stored,
            "bytes_stored_after": self.bytes_stored_after,
            "month_cost": self.prices.month(self.bytes_stored),
            "month_cost_after": self.prices.month(self.bytes_stored_after),
            "requests": {
                "class_a": self.requests.class_a,
                "class_b": self.requests.class_b,
                "class_c": self.requests.class_c,
            },
            "requests_cost": self.requests.cost(self.prices),
            "currency": self.prices.currency,
            "max_plan_bytes": self.bytes_max,
            "within_max_plan_bytes": self.is_within_limit,
        }


def measured(history: Sequence[tuple[int, int]]) -> Rate | None:
    """The rate of work that a ledger remembers; pauses are left out.

    Args:
        history: seconds in which parts became durable, in order, with the bytes of each.
    """
    if not history:
        return None
    worked_s = 1 + sum(min(later - earlier, IDLE_S) for (earlier, _), (later, _) in pairwise(history))
    if worked_s < MEASURED_S_MIN:
        return None
    return Rate(sum(size for _, size in history) / worked_s, worked_s)
