"""Waits and durations within the event loop, all by its own clock. Here, as what only knows the time loads no asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress


def loop_s() -> float:
    """Now by the clock of the running event loop: the one clock of all waits and durations within it, seconds."""
    return asyncio.get_running_loop().time()


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, so long at most; tell if it came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False
