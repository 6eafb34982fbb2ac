"""2 GB over 8 streams in parts of 16 MiB, killed again and again: what a kill costs, by what the target really took."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

from polyb2.sandbox import GeneratedGzip
from tests.faults.death import SYNC, Cost, killed, sent_bytes, settled, start
from tests.faults.watch import must
from tests.faults.world import LARGE, MIB, a_world

SIZE = 2_000_000_000
STREAMS, PART_BYTES = 8, 16 * MIB
COST_MAX = STREAMS * PART_BYTES
BETWEEN_S = (1.2, 2.2)


@dataclass
class LargeTransfer:
    """One transfer; ``costs`` are the bytes that each kill made the target take once more than there are receipts for."""

    seed: int
    kills: int
    costs: list[int] = field(default_factory=list)

    async def run(self) -> str:
        """Kill ``kills`` times, then let it end.

        Raises:
            ViolationError: a kill cost too much, or what arrived is not what the source has.
        """
        chance = random.Random(self.seed)
        async with a_world(hashes_only=True, part_bytes=PART_BYTES) as world:
            world.publish(LARGE, GeneratedGzip(SIZE))
            words = [*SYNC[:-1], str(STREAMS)]
            code: int | None = None
            while code != 0:
                cost = Cost(world)
                process = await start(world, *words, POLYB2_PART_SIZE=str(PART_BYTES))
                with suppress(TimeoutError):
                    within_s = chance.uniform(*BETWEEN_S) if len(self.costs) < self.kills else 120.0
                    await asyncio.wait_for(process.wait(), within_s)
                code = await killed(process)
                await settled(world)
                must(cost.so_far() <= COST_MAX, f"a kill cost {cost.so_far()} bytes")
                if code != 0:
                    self.costs.append(cost.so_far())
            current = world.box.target.current(LARGE)
            must(
                current is not None and current.etag == world.box.source.object(LARGE).etag,
                "what arrived is another file",
            )
            must(world.box.target.open_uploads() == [], "an upload is left over")
            taken = sent_bytes(world)
        size = world.newest(LARGE).size
        must(taken - size == sum(self.costs), f"{taken - size} bytes were sent again, the kills cost {sum(self.costs)}")
        told = ", ".join(f"{cost / MIB:.0f}" for cost in self.costs)
        return f"{len(self.costs)} kills, sent again for each: {told} MiB; {taken / size:.2f} x the file in all"
