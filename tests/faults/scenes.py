"""What happened before something goes wrong, and what a case of the matrix is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polyb2.sandbox import Answer, Fault, Reset
from tests.faults.watch import must
from tests.faults.world import LARGE, Scene, World


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong.

    Attributes:
        step: where.
        fault: what.
        lasts: ``once`` or ``always``.
        arm: puts it into the world, just before the run; may be awaited.
        scene: what happened before.
        heals: the run itself must end with every file completed.
        selected: the run also lists (``sync``).
        free: nobody is charged a retry for it.
        watched: the run stays up (``--watch``) until every file is completed, and is stopped then.
        torn: the run may end with rows in hand, as the ledger takes no writes.
        settings: what this run has set otherwise.
    """

    step: str
    fault: str
    lasts: str
    arm: Callable[[World], object]
    scene: Scene
    heals: bool = False
    selected: bool = False
    free: bool = False
    watched: bool = False
    torn: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.step}: {self.fault}, {self.lasts}"


# -- scenes -------------------------------------------------------------------------------------------------------------


async def nothing(_world: World) -> None:
    """Not even a listing."""


async def queued(world: World) -> None:
    """Three files wait."""
    await world.discover()


async def half_sent(world: World) -> None:
    """An attempt at the large file left two parts and an open upload."""
    await world.discover()
    fault = world.box.target.inject(Fault("upload_part", Answer(500, "InternalError"), key=LARGE, part=3, times=0))
    row = await _until_large_was_tried(world)
    fault.times = -1
    must((row["status"], row["parts_done"]) == ("failed_upload", 2), "the scene is not what it should be")


async def _until_large_was_tried(world: World) -> dict[str, Any]:
    """One claim after the other, one part after the other, until it was the large file's turn."""
    # Patient, as nothing stalls here: what goes wrong is what the scene wants.
    patient = {"polyb2_stall_timeout": 30.0, "polyb2_lease_seconds": 60.0}
    world.settings = {"polyb2_part_tries": 1, "polyb2_concurrency": 1, "polyb2_retry_base": 3.0, **patient}
    row = await world.row(LARGE)
    while not row["attempt"]:
        await world.run(limit=1)
        row = await world.row(LARGE)
    world.settings = {}
    await world.make_due()
    return row


async def superseded(world: World) -> None:
    """As half sent, and then the source replaced the file: an upload waits for its abort."""
    await half_sent(world)
    world.replace(LARGE)
    await world.discover()


async def landed(world: World) -> None:
    """PUTs and a Complete took place, and all their answers were lost."""
    await world.discover()
    lost = [
        world.box.target.inject(Fault(operation, Reset("after"), times=0)) for operation in ("put", "complete", "head")
    ]
    row = await _until_large_was_tried(world)
    for fault in lost:
        fault.times = -1
    must(
        (row["status"], world.stored(LARGE) is not None) == ("failed_upload", True),
        "the scene is not what it should be",
    )
