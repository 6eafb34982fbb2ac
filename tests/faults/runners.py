"""Processes on one ledger: one is frozen past its lease and woken while its successor is at work or done; many at once."""

from __future__ import annotations

import asyncio
import signal

from polyb2.core.errors import LedgerBusyError
from polyb2.sandbox import Drip, Fault
from tests.faults.death import killed, start
from tests.faults.watch import must
from tests.faults.world import LARGE, MIB, SMALL, World, a_world

STOPS = (
    "ledger.claim.after", "source.get.before", "source.get.after", "target.create.before", "target.create.after",
    "ledger.begin.before", "ledger.begin.after", "target.upload_part.before", "target.upload_part.after",
    "ledger.receipt.before", "ledger.receipt.after", "ledger.note.before", "ledger.note.after", "target.complete.before",
    "target.complete.after", "target.head.before", "ledger.complete.before", "target.put.before", "target.put.after",
)  # fmt: skip
EARLY_STOPS = (
    "ledger.claim.after", "source.get.before", "target.create.before", "target.create.after", "ledger.begin.after",
    "target.upload_part.before", "target.upload_part.after", "ledger.receipt.before", "ledger.note.after",
    "target.complete.before", "target.complete.after", "target.put.before", "target.put.after",
)  # fmt: skip
TRIES = 4


async def frozen_at(point: str, nth: int = 1, *, early: bool = False) -> bool:
    """Freeze a process at a point until another has done its work, then wake it; False if it never came there.

    With ``early`` it is woken while the other is still at it.

    A process that stands still in the middle of its heartbeat's transaction holds the ledger, and nobody can do anything
    about that: then it is tried again.

    Raises:
        ViolationError: a guarantee did not hold.
    """
    for left in reversed(range(TRIES)):
        try:
            return await _frozen_at(point, nth, early=early)
        except LedgerBusyError:
            if not left:
                raise
    return False


async def _frozen_at(point: str, nth: int, *, early: bool) -> bool:
    async with a_world() as world:
        world.settings = {"polyb2_lease_seconds": 1.0, "polyb2_part_tries": 10}
        await world.discover()
        # One stream, or the process might stand still in the middle of another task's transaction, and hold the ledger.
        process = await start(world, "run", "--concurrency", "1", POLYB2_FAILPOINTS=f"{point}=stop@{nth}")
        if not await stands_still(process):
            return False
        try:
            if early:
                code = await _woken_beside_its_successor(world, process)
            else:
                code = await _woken_after_its_successor(world, process)
        finally:
            await killed(process)
        must(code == 0, f"the woken process ended with {code}")
        await world.check_after()
        return True


async def _woken_after_its_successor(world: World, process: asyncio.subprocess.Process) -> int:
    result = await world.run()
    must(not result.outcome.unfinished, f"the successor did not complete {result.outcome.unfinished}")
    versions = {key: len(world.box.target.versions(key)) for key in (SMALL, LARGE)}
    asked = len(world.box.target.requests)
    process.send_signal(signal.SIGCONT)
    code = await asyncio.wait_for(process.wait(), 30)
    await _check_woken(world, asked, versions)
    return code


async def _woken_beside_its_successor(world: World, process: asyncio.subprocess.Process) -> int:
    """Wake it when the successor has sent its first body after the takeover; both end by themselves."""
    world.box.source.inject(Fault("get", Drip(6 * MIB), times=0))
    attempts = {row["key"]: row["attempt"] for row in await world.rows()}
    successor = asyncio.create_task(world.run())
    while all(row["attempt"] == attempts[row["key"]] for row in await world.rows()):
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGCONT)
    code = await asyncio.wait_for(process.wait(), 30)
    result = await successor
    must(not result.outcome.unfinished, f"the successor did not complete {result.outcome.unfinished}")
    for key in (SMALL, LARGE):
        must(len(world.box.target.versions(key)) <= 2, f"{key} was sent more than twice")
    return code


async def _check_woken(world: World, asked: int, versions: dict[str, int]) -> None:
    """It may have finished what was under way, look for what it has to abort, and no more."""
    new = list(world.box.target.requests)[asked:]
    sent = [item for item in new if item.operation in {"put", "upload_part", "complete"} and item.status == 200]
    must(len(sent) <= 2, f"the woken process sent {len(sent)} bodies")
    for key, count in versions.items():
        must(len(world.box.target.versions(key)) - count <= 1, f"{key} got more than what was under way")


async def stands_still(process: asyncio.subprocess.Process) -> bool:
    """Wait until a process stands still; False if it ends instead."""
    ended = asyncio.ensure_future(process.wait())
    while not ended.done():
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:  # noqa: ASYNC230, PTH123
            if stat.read().rpartition(")")[2].split()[0] == "T":
                ended.cancel()
                return True
        await asyncio.sleep(0.01)
    return False
