"""Time that does not pass as it should: a blocked event loop outlives the lease, and somebody sets the wall clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

from polyb2.sandbox import Answer, Call, Fault
from tests.faults.scenes import Case, queued
from tests.faults.world import LARGE, World

LEASE_S = 1.0
HOUR_S = 3600.0


def clock_cases() -> Iterator[Case]:
    """All of them, in a stable order."""
    for operation, skip in (("get", 1), ("upload_part", 1), ("complete", 0)):

        def block(world: World, operation: str = operation, skip: int = skip) -> None:
            # The sandbox runs on the engine's loop, so that this stops everything.
            call = Call(lambda: time.sleep(1.5 * LEASE_S))
            server = world.server("source" if operation == "get" else "target")
            server.inject(Fault(operation, call, key=LARGE, skip=skip))

        yield Case(
            "lease", f"event loop blocked for longer, at {operation}", "once", block, queued, heals=True, free=True,
            settings={"polyb2_lease_seconds": LEASE_S},
        )  # fmt: skip
    for words, step_s in (("forward", HOUR_S), ("back", -HOUR_S)):

        def set_clock(world: World, step_s: float = step_s) -> None:
            call = Call(lambda: setattr(world.clock, "step_s", step_s))
            world.box.target.inject(Fault("upload_part", call, key=LARGE, skip=1))

        fault = f"wall clock set {words} by an hour"
        yield Case("lease", fault, "once", set_clock, queued, heals=True, free=True)

        def set_clock_while_one_waits(world: World, step_s: float = step_s) -> None:
            set_clock(world, step_s)
            world.box.source.inject(Fault("get", Answer(500, "InternalError"), key=LARGE))

        settings = {"polyb2_part_tries": 1}
        yield Case("back-off", fault, "once", set_clock_while_one_waits, queued, heals=True, settings=settings)
