"""The limits of a service that answers 503 above them: requests a second, and bytes of bodies a second.

Token buckets that hold the allowance of ``BURST_S``. A request is judged by its head, before its body moves, as services do.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.server.wire import Answer

BURST_S = 0.5
_DATA = {"get", "put", "upload_part"}
_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code><Message>Please slow down.</Message></Error>'
)


class Bucket:
    """Tokens that come at ``rate`` a second, ``BURST_S`` worth of them at most; may go below zero by one request."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._level = rate * BURST_S
        self._filled_s = time.monotonic()

    def has(self, now_s: float) -> bool:
        self._level = min(self._rate * BURST_S, self._level + (now_s - self._filled_s) * self._rate)
        self._filled_s = now_s
        return self._rate == 0 or self._level > 0

    def take(self, amount: float) -> None:
        self._level -= amount


class Throttle:
    """Counts what it lets pass and what it refuses; a limit of 0 is none.

    Only requests that carry objects count.
    """

    def __init__(self, requests_per_s: float, bytes_per_s: float) -> None:
        self._limits = Bucket(requests_per_s), Bucket(bytes_per_s)
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self._accepted = self._refused = self._bytes = 0
        self._first_s = self._last_s = 0.0

    def refusal(self, name: str, amount: int) -> Answer | None:
        """The 503 that a request which moves ``amount`` bytes meets, or None."""
        if name not in _DATA:
            return None
        with self._lock:
            now_s = time.monotonic()
            self._first_s = self._first_s or now_s
            requests, size = self._limits
            if not all([requests.has(now_s), size.has(now_s)]):
                self._refused += 1
                return Answer(503, {"Content-Type": "application/xml"}, _BODY, close=True)
            requests.take(1)
            size.take(amount)
            self._accepted, self._bytes, self._last_s = self._accepted + 1, self._bytes + amount, now_s
            return None

    def report(self) -> dict[str, Any]:
        """Counts, and the seconds between the first request and the last that passed."""
        return {
            "accepted": self._accepted,
            "refused": self._refused,
            "bytes": self._bytes,
            "seconds": self._last_s - self._first_s,
        }
