"""Suspended, or with a clock that is wrong or jumps."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

from tests.faults.death import SYNC
from tests.faults.places.place import (
    Place,
    ended,
    place,
    until_asked,
)
from tests.faults.watch import must
from tests.faults.world import World


@place("suspended for longer than its lease, nobody else there")
async def _suspended(world: World) -> str:
    there = Place(world)
    process = await there.start(*SYNC)
    await until_asked(world, process)
    for _ in range(3):
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(2.5)
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.2)
    said = await ended(process)
    must(said.code == 0, f"ended with {said.code}: {said.err[-300:]}")
    await world.check_after()
    return "mirrored"


@place("the clock a year behind from the start", "faketime")
async def _year_behind(world: World) -> str:
    return await Place(world, before=("faketime", "-m", "-f", "-1y")).refuses("clock", 4)


@place("the clock jumps a year ahead and back under a run", "faketime")
async def _clock_jumps(world: World) -> str:
    wanted = world.folder / "clock"
    wanted.write_text("+0")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    env: dict[str, str | None] = {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(wanted), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "POLYB2_GIVE_UP": "30s",
    }  # fmt: skip
    process = await Place(world, env=env).start(*SYNC)
    await until_asked(world, process)
    for offset in ("+1y", "-1y", "+0"):
        wanted.write_text(offset)
        await asyncio.sleep(0.4)
    said = await ended(process)
    must(said.code in {0, 4}, f"ended with {said.code}: {said.err[-300:]}")
    charged = [row["key"] for row in await world.rows() if row["retry_count"]]
    must(not charged, f"a retry was charged to {charged}")
    await Place(world).mirrors()
    return f"ended with {said.code}: {said.err.strip()[-160:]}"
