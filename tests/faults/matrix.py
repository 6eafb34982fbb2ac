"""Plays a case: the scene, the fault, the run that meets it, what holds then; the cure, and what holds afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.faults.catalogue import Case
from tests.faults.world import ViolationError, World, a_world, must


@dataclass(frozen=True)
class Played:
    """How a case ended; ``violation`` is empty where every guarantee held."""

    case: Case
    violation: str
    seconds: float
    ended: str


async def play(case: Case, *, part_bytes: int | None = None) -> Played:
    """Play one case in a world of its own."""
    began_s = time.monotonic()
    violation, ended = "", ""
    try:
        async with a_world(**({} if part_bytes is None else {"part_bytes": part_bytes})) as world:
            ended = await _play(case, world)
    except ViolationError as error:
        violation = str(error)
    except Exception as error:  # noqa: BLE001 - whatever else comes out is a violation as well
        violation = f"{type(error).__name__}: {error}"
    return Played(case, violation, time.monotonic() - began_s, ended)


async def _play(case: Case, world: World) -> str:
    await case.scene(world)
    case.arm(world)
    ended = await world.act(selected=case.selected)
    await world.check_meanwhile()
    if case.heals:
        left = [row["key"] for row in await world.rows() if row["status"] != "completed"]
        must(not ended and not left, f"did not heal by itself: {ended or left}")
    world.heal()
    await world.recover()
    await world.check_after()
    return ended
