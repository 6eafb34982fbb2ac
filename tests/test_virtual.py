"""The loop in virtual time never really waits."""

from __future__ import annotations

import asyncio
import time

from tests.virtual import play


def test_a_cancelled_timer_is_not_waited_for() -> None:
    async def act() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1, print).cancel()
        await asyncio.sleep(30)
        return loop.time()

    began_s = time.monotonic()
    assert play(act()) == 30
    assert time.monotonic() - began_s < 10
