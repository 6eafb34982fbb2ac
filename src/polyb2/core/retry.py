"""The times of retries and waits: pure arithmetic, with the randomness passed in.

Requests back off as Backblaze asks (1 s x 1.5 up to 64 s, full jitter); files wait in the ledger and double from
``POLYB2_RETRY_BASE``. The service's Retry-After is never undercut, up to five minutes. The waits of the engine are one
object, so that a test of hours passes a faster one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from polyb2.core.errors import Kind, RemoteError

FILE_BACKOFF_MAX_S = 3600.0
"""The limit of doubling; ``POLYB2_RETRY_BASE`` is not longer either."""
RETRY_AFTER_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """Back-off of one request within an attempt; seconds.

    Attributes:
        silences: total budget of stall time-outs for a silent side, at most one per operation; None: one per try.
        longest_wait_s: a service whose Retry-After is longer than this is not asked again.
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
"""For a command that only inspects, while a person waits: some seconds, and enough that random refusals of a fifth of all
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


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    Attributes:
        retry_first_s: back-off of a request after its first failure, at most.
        retry_limit_s: back-off of a request, at most.
        poll_s: between two checks of the queue, for changes by other processes.
        sweep_s: between two sweeps of abandoned uploads.
        probe_first_s: until a side in trouble is probed for the first time; then twice as long each time.
        probe_limit_s: between two probes, at most.
        probe_fresh_s: the outcome of a probe serves for all attempts that fail together.
        near_fresh_s: lifetime of a cached result: whether the neighbours of a file can be read.
        moved_limit_s: maximum duration of a redirect: a network's login page goes away, an endpoint that moved does not.
        publish_limit_s: maximum time until a completed object is seen; assembling 172 GB takes time.
        publish_logged_s: a wait for such an object is logged after this time.
        refusal_logged_s: a part that is refused for longer is logged.
        listing_first_s: back-off of the discovery of a sync after its first failure; then twice as long each time.
        discover_again_s: after a failed discovery of a watch, at most this long until the next.
        late_again_s: while a file is late, at most this long until the next discovery.
        pause_min_s: between two discoveries of a watch, at least.
        full_listing_s: between two full listings of a watch.
        round_poll_s: between two looks at what another watch on the same ledger does, on average.
    """

    retry_first_s: float = 1.0
    retry_limit_s: float = 64.0
    poll_s: float = 1.0
    sweep_s: float = 300.0
    probe_first_s: float = 1.0
    probe_limit_s: float = 60.0
    probe_fresh_s: float = 0.9
    near_fresh_s: float = 60.0
    moved_limit_s: float = 20.0
    publish_limit_s: float = 300.0
    publish_logged_s: float = 3.0
    refusal_logged_s: float = 60.0
    listing_first_s: float = 5.0
    discover_again_s: float = 60.0
    late_again_s: float = 300.0
    pause_min_s: float = 1.0
    full_listing_s: float = 86_400.0
    round_poll_s: float = 3.0


TIMING = Timing()
