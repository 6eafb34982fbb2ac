"""When to try again: pure arithmetic, with the randomness passed in.

Requests back off as Backblaze asks (1 s x 1.5 up to 64 s, full jitter); files wait in the ledger and double from
``POLYB2_RETRY_BASE``. What the service says in Retry-After is never undercut, up to five minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from polyb2.core.errors import Kind, RemoteError

FILE_BACKOFF_MAX_S = 3600.0
"""Where doubling ends; ``POLYB2_RETRY_BASE`` is not longer either."""
RETRY_AFTER_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """Back-off of one request within an attempt; seconds.

    Attributes:
        silences: how many stall time-outs a silent side gets in all, and no request twice; None: each try gets one.
        longest_wait_s: a service that asks in Retry-After to wait longer is not asked again.
    """

    tries: int = 10
    first_s: float = 1.0
    factor: float = 1.5
    limit_s: float = 64.0
    silences: float | None = None
    longest_wait_s: float | None = None

    def delay_s(self, failures: int, error: RemoteError, fraction: float) -> float | None:
        """Seconds to wait after the ``failures``-th failure, or None when the tries are used up.

        Args:
            failures: how often the request failed so far, from 1.
            error: the last failure; its kind may allow fewer tries.
            fraction: a random number from 0 to 1 (full jitter).
        """
        if self.silences is not None and error.kind is Kind.STALLED:
            return None
        allowed = error.handling.tries
        if failures >= (self.tries if allowed is None else min(allowed, self.tries)):
            return None
        if self.longest_wait_s is not None and (error.retry_after_s or 0.0) > self.longest_wait_s:
            return None
        backoff = fraction * min(self.first_s * self.factor ** (failures - 1), self.limit_s)
        return max(backoff, min(error.retry_after_s or 0.0, RETRY_AFTER_MAX_S))


LOOKING = RequestPolicy(tries=6, silences=1.25, longest_wait_s=5.0)
"""Of a command that only looks, for a person who waits: some seconds, and enough that routine refusals of a fifth of all
requests fail no check (one request in 16,000)."""


def file_delay_s(charged: int, base_s: float, fraction: float) -> float:
    """Seconds until a failed file may be claimed again: base x 2^charged up to an hour, and a quarter more at most."""
    return min(base_s * 2.0 ** min(charged, 20), FILE_BACKOFF_MAX_S) * (1 + fraction / 4)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from a Retry-After header, which is a number or an HTTP date; None where it is neither."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
