"""Plays a case: the scene, the fault, the run that meets it, what holds then; the cure, and what holds afterwards."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass

from tests.faults.scenes import Case
from tests.faults.watch import ViolationError, must
from tests.faults.world import World, a_world


@dataclass(frozen=True)
class Played:
    """How a case ended; ``violation`` is empty where every guarantee held."""

    case: Case
    violation: str
    seconds: float
    ended: str


async def play(case: Case) -> Played:
    """Play one case in a world of its own."""
    began_s = time.monotonic()
    violation, ended = "", ""
    try:
        async with a_world() as world:
            ended = await _play(case, world)
    except ViolationError as error:
        violation = str(error)
    except Exception as error:  # noqa: BLE001 - whatever else comes out is a violation as well
        violation = f"{type(error).__name__}: {error}"
    return Played(case, violation, time.monotonic() - began_s, ended)


async def _play(case: Case, world: World) -> str:
    await case.scene(world)
    before = dict(world.settings)
    world.settings = before | dict(case.settings)
    armed = case.arm(world)
    if inspect.isawaitable(armed):
        await armed
    ended = await world.act(selected=case.selected, watched=case.watched)
    must(world.was_struck, "the fault never struck")
    if not case.torn:
        await world.check_meanwhile()
    if case.heals:
        left = [row["key"] for row in await world.rows() if row["status"] != "completed"]
        must(not ended and not left, f"did not heal by itself: {ended or left}")
    if case.free:
        charged = [row["key"] for row in await world.rows() if row["retry_count"]]
        must(not charged, f"a retry was charged to {charged}")
    await world.heal()
    world.settings = before
    await world.recover()
    await world.check_after()
    return ended
