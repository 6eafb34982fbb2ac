"""Plays a case: the scene, the fault, the run that meets it, what holds then; the cure, and what holds afterwards."""

from __future__ import annotations

import inspect

from tests.faults.scenes import Case
from tests.faults.watch import must
from tests.faults.world import World, a_world


async def play(case: Case) -> str:
    """Play one case in a world of its own; how the run that met the fault ended, empty if it ended well.

    Raises:
        ViolationError: a guarantee did not hold; whatever else comes out is a violation as well.
    """
    async with a_world() as world:
        return await _play(case, world)


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
