"""Two processes on one ledger, of which one is frozen past its lease and woken while its successor is at work or done."""

from __future__ import annotations

import asyncio
import signal

from polyb2.core.errors import LedgerBusyError
from tests.faults.death import start
from tests.faults.world import LARGE, SMALL, World, a_world, must

STOPS = (
    "ledger.claim.after", "source.get.before", "source.get.after", "target.create.before", "target.create.after",
    "ledger.begin.before", "ledger.begin.after", "target.upload_part.before", "target.upload_part.after",
    "ledger.receipt.before", "ledger.receipt.after", "ledger.note.before", "ledger.note.after", "target.complete.before",
    "target.complete.after", "target.head.before", "ledger.complete.before", "target.put.before", "target.put.after",
)  # fmt: skip


TRIES = 4


async def frozen_at(point: str, nth: int = 1) -> bool:
    """Freeze a process at a point until another has done its work, then wake it; False if it never came there.

    A process that stands still in the middle of its heartbeat's transaction holds the ledger, and nobody can do anything
    about that: then it is tried again.

    Raises:
        ViolationError: a guarantee did not hold.
    """
    for left in reversed(range(TRIES)):
        try:
            return await _frozen_at(point, nth)
        except LedgerBusyError:
            if not left:
                raise
    return False


async def _frozen_at(point: str, nth: int) -> bool:
    async with a_world() as world:
        world.settings = {"polyb2_lease_seconds": 1.0, "polyb2_part_tries": 10}
        await world.discover()
        # One stream, or the process might stand still in the middle of another task's transaction, and hold the ledger.
        process = await start(world, "run", "--concurrency", "1", POLYB2_FAILPOINTS=f"{point}=stop@{nth}")
        if not await _stopped(process):
            return False
        try:
            result = await world.run()
            must(not result.outcome.unfinished, f"the successor did not complete {result.outcome.unfinished}")
            versions = {key: len(world.box.target.versions(key)) for key in (SMALL, LARGE)}
            asked = _requests(world)
            process.send_signal(signal.SIGCONT)
            code = await asyncio.wait_for(process.wait(), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        must(code == 0, f"the woken process ended with {code}")
        await _check_woken(world, asked, versions)
        await world.check_after()
        return True


async def _check_woken(world: World, asked: int, versions: dict[str, int]) -> None:
    """It may have finished what was under way, look for what it has to abort, and no more."""
    new = list(world.box.target.requests)[asked:]
    sent = [item for item in new if item.operation in {"put", "upload_part", "complete"} and item.status == 200]
    must(len(sent) <= 2, f"the woken process sent {len(sent)} bodies")
    for key, count in versions.items():
        must(len(world.box.target.versions(key)) - count <= 1, f"{key} got more than what was under way")


def _requests(world: World) -> int:
    return len(world.box.target.requests)


async def _stopped(process: asyncio.subprocess.Process) -> bool:
    """Wait until a process stands still; False if it ends instead."""
    ended = asyncio.ensure_future(process.wait())
    while not ended.done():
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:  # noqa: ASYNC230, PTH123
            if stat.read().rpartition(")")[2].split()[0] == "T":
                ended.cancel()
                return True
        await asyncio.sleep(0.01)
    return False
