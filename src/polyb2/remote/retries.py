"""The tries of one request: the policy's back-off, and one log line about a long wait.

Every retry of a request is counted here: those of control calls (``guard.py``) and of body transfers (``flow/transfer``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from polyb2.core.errors import RemoteError
from polyb2.core.logevents import LogEvent, log_fields
from polyb2.core.retry import RequestPolicy
from polyb2.core.units import format_duration
from polyb2.meters import Meters

log = logging.getLogger(__name__)
WAIT_LOGGED_S = 15.0
"""A request that is retried for longer than this is logged."""
WAIT_APART_S = 60.0
"""After this time without such a wait, the next one is logged again."""


class Tries:
    """The tries of one request: asks the policy, waits, or lets the error through when they are used up."""

    def __init__(
        self, policy: RequestPolicy, meters: Meters, is_vain: Callable[[RemoteError], bool] = lambda _error: False
    ) -> None:
        """``is_vain`` tells if no further try is worth making after an error, whatever the policy allows."""
        self._policy = policy
        self._meters = meters
        self._is_vain = is_vain
        self._began_s: float | None = None
        self.failures = 0

    def delay_s(self, error: RemoteError) -> float:
        """Seconds to wait before the next try.

        Raises:
            RemoteError: ``error``, when there is no next try.
        """
        self.failures += 1
        self._meters.failed(error)
        delay_s = self._policy.delay_s(self.failures, error, random.random())  # noqa: S311 - jitter
        if delay_s is None or self._is_vain(error):
            raise error
        self._log_wait(error, delay_s)
        self._meters.retries[error.side] += 1
        extra = log_fields(
            LogEvent.REQUEST_RETRIED, attempt=self.failures, seconds=delay_s, side=error.side, reason=error.kind
        )
        log.debug("try %d failed, next in %.1f s: %s", self.failures, delay_s, error, extra=extra)
        return delay_s

    def _log_wait(self, error: RemoteError, delay_s: float) -> None:
        """Log once the reason of a long wait; requests that wait side by side or in turn are one wait."""
        now_s = asyncio.get_running_loop().time()
        if self._began_s is None:
            self._began_s = now_s
        if now_s + delay_s - self._began_s < WAIT_LOGGED_S:
            return
        logged_until_s = self._meters.wait_logged_until_s.get(error.side, 0.0)
        self._meters.wait_logged_until_s[error.side] = max(logged_until_s, now_s + delay_s + WAIT_APART_S)
        if now_s < logged_until_s:
            return
        extra = log_fields(LogEvent.REQUEST_RETRIED, seconds=delay_s, side=error.side, reason=error.kind)
        words = "waiting for the %s, next try in %s: %s"
        log.warning(words, error.side, format_duration(delay_s), error.found, extra=extra)
