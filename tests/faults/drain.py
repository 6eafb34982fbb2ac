"""SIGTERM to a real process while a peer stands still, throttles or drips, and at each ledger write.

It ends within ``POLYB2_DRAIN_SECONDS`` + 5 s, its rows are free and charged nothing, and the next run goes on.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass

from polyb2.core.status import WAITING, Status
from polyb2.sandbox import Answer, Drip, Fault, Stall
from polyb2.sandbox.faults import Action
from tests.faults.death import SYNC, killed, start
from tests.faults.scenes import half_sent, nothing, queued, superseded
from tests.faults.watch import must
from tests.faults.world import LARGE, SMALL, Scene, World, a_world

DRAIN_S = 1
GRACE_S = 5
SILENT, DEAF = Stall(), Stall(reading=True)
THROTTLED = Answer(503, "SlowDown")


@dataclass(frozen=True)
class Peer:
    """What a process is stopped in the middle of."""

    step: str
    side: str
    operation: str
    fault: str
    action: Action
    scene: Scene = queued
    key: str = "*"
    words: tuple[str, ...] = ("run",)


PEERS = (
    Peer("list of the source", "source", "list", "no answer", SILENT, nothing, words=SYNC),
    Peer("list of the source", "source", "list", "503", THROTTLED, nothing, words=SYNC),
    Peer("list of the target", "target", "list", "no answer", SILENT, nothing, words=SYNC),
    Peer("HEAD of the source", "source", "head", "no answer", SILENT),
    Peer("range GET", "source", "get", "no answer", SILENT, key=LARGE),
    Peer("range GET", "source", "get", "stall in the body", Stall(1000), key=LARGE),
    Peer("range GET", "source", "get", "slow drip", Drip(100_000), key=LARGE),
    Peer("range GET", "source", "get", "503", THROTTLED, key=LARGE),
    Peer("whole GET", "source", "get", "stall in the body", Stall(1000), key=SMALL),
    Peer("PUT", "target", "put", "no answer", SILENT, key=SMALL),
    Peer("PUT", "target", "put", "stall while sending", DEAF, key=SMALL),
    Peer("Create", "target", "create", "no answer", SILENT),
    Peer("Create", "target", "create", "503", THROTTLED),
    Peer("UploadPart", "target", "upload_part", "no answer", SILENT),
    Peer("UploadPart", "target", "upload_part", "stall while sending", DEAF),
    Peer("UploadPart", "target", "upload_part", "503", THROTTLED),
    Peer("Complete", "target", "complete", "no answer", SILENT),
    Peer("Complete", "target", "complete", "503", THROTTLED),
    Peer("ListParts", "target", "list_parts", "no answer", SILENT, half_sent),
    Peer("HEAD of the target", "target", "head", "no answer", SILENT, half_sent),
    Peer("ListMultipartUploads", "target", "list_uploads", "no answer", SILENT, half_sent),
    Peer("Abort", "target", "abort", "no answer", SILENT, superseded),
)
WRITES = ("register", "claim", "begin", "receipt", "note", "complete", "end")


async def drained_beside(peer: Peer) -> bool:
    """Stop a process that waits for a peer; False if it never came there.

    Raises:
        ViolationError: it took too long, or a guarantee did not hold.
    """
    async with a_world() as world:
        await peer.scene(world)
        fault = Fault(peer.operation, peer.action, key=peer.key, times=0)
        world.server(peer.side).inject(fault)
        process = await start(world, *peer.words, POLYB2_DRAIN_SECONDS=str(DRAIN_S), POLYB2_STALL_TIMEOUT="60s")
        ended = asyncio.ensure_future(process.wait())
        while not (fault.hits or ended.done()):
            await asyncio.sleep(0.01)
        if ended.done():
            return False
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await _ended_in_time(process, began_s)
        must(process.returncode == 128 + signal.SIGTERM, f"the process ended with {process.returncode}")
        await _check_and_go_on(world)
        return True


async def drained_at(point: str) -> bool:
    """Let a process get SIGTERM at a failpoint; False if it never came there (as for :func:`drained_beside`)."""
    async with a_world() as world:
        await world.discover()
        began_s = time.monotonic()
        process = await start(world, "run", POLYB2_FAILPOINTS=f"{point}=term", POLYB2_DRAIN_SECONDS=str(DRAIN_S))
        await _ended_in_time(process, began_s)
        must(process.returncode in {0, 128 + signal.SIGTERM}, f"the process ended with {process.returncode}")
        await _check_and_go_on(world)
        return process.returncode != 0


async def _ended_in_time(process: asyncio.subprocess.Process, began_s: float) -> None:
    try:
        await asyncio.wait_for(process.wait(), DRAIN_S + GRACE_S)
    except TimeoutError:
        await killed(process)
    took_s = time.monotonic() - began_s
    must(took_s < DRAIN_S + GRACE_S, f"it took {took_s:.1f} s to end")


async def _check_and_go_on(world: World) -> None:
    for row in await world.rows():
        must(Status(row["status"]) in WAITING | {Status.COMPLETED}, f"{row['key']} is left {row['status']}")
        must(row["retry_count"] == 0, f"{row['key']} was charged for our own stop")
    await world.heal()
    await world.recover()
    await world.check_after()
