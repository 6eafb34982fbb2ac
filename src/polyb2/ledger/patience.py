"""What to do while the ledger cannot be used: another process holds it, or its disk is full. Wait, say so once, go on.

A command waits half a minute for another process and for nothing else; a run sets a rule of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from polyb2.core.errors import LedgerBusyError, LedgerError
from polyb2.core.logevents import LogEvent, told

log = logging.getLogger(__name__)
T = TypeVar("T")
Rule = Callable[[LedgerError, float], bool]
"""Whether to try again after an error, given the seconds since the first."""
BUSY_S = 30.0
_PAUSE_S = 0.5


def while_busy(error: LedgerError, waited_s: float) -> bool:
    """The rule of a command."""
    return isinstance(error, LedgerBusyError) and waited_s < BUSY_S


class Patience:
    """Tries again what the state of the ledger prevented; ``problem`` is what is being waited for."""

    def __init__(self) -> None:
        self.rule: Rule = while_busy
        self.problem: LedgerError | None = None

    async def tried(self, once: Callable[[], Awaitable[T]]) -> T:
        """The result of ``once``, however often it takes.

        Raises:
            LedgerError: waiting does not cure it, or the rule says that it lasted too long.
        """
        first_s = 0.0
        while True:
            try:
                result = await once()
            except LedgerError as error:
                now_s = time.monotonic()
                first_s = first_s or now_s
                if not (error.may_pass and self.rule(error, now_s - first_s)):
                    raise
                if self.problem is None:
                    log.warning("waiting: %s", error, extra=told(LogEvent.LEDGER_WAITING))
                self.problem = error
            else:
                if self.problem is not None:
                    log.info("the ledger can be used again; going on", extra=told(LogEvent.LEDGER_RESUMED))
                    self.problem = None
                return result
            await asyncio.sleep(_PAUSE_S)
