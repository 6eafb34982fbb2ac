"""A cache of one value: whoever asks while it is made waits for that, and it serves until it is too old."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

from polyb2.core.errors import LedgerError

log = logging.getLogger(__name__)
T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Single-flight cache with a TTL of ``fresh_s``."""

    def __init__(self, make: Callable[[], Awaitable[T]], fresh_s: float = 1.0) -> None:
        self._make = make
        self._fresh_s = fresh_s
        self._turn = asyncio.Lock()
        self._made: tuple[float, T] | None = None
        self._renewal: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The value, at most ``fresh_s`` old."""
        async with self._turn:
            now_s = asyncio.get_running_loop().time()
            if self._made is None or now_s - self._made[0] >= self._fresh_s:
                self._made = now_s, await self._make()
            return self._made[1]

    async def get_stale(self) -> T:
        """The value at once, however old, while a newer one is made for later calls; only the first call waits."""
        if self._made is None:
            return await self.get()
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self.get(), name="renewal")
            self._renewal.add_done_callback(_log_failure)
        return self._made[1]

    async def close(self) -> None:
        """Cancel a renewal that is under way."""
        if self._renewal is not None:
            self._renewal.cancel()
            with suppress(asyncio.CancelledError, LedgerError):
                await self._renewal


def _log_failure(task: asyncio.Task[T]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("not renewed: %s", error)
