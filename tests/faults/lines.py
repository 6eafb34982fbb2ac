"""Everything that ``make faults`` plays, each as an act that comes to a line of the report."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from tests.core.rate_laws import SEEDS, large_grid
from tests.e2e.surroundings import COMMANDS, SURROUNDINGS, play_alone
from tests.faults.catalogue import catalogue
from tests.faults.death import Soak, die_at
from tests.faults.drain import PEERS, WRITES, drained_at, drained_beside
from tests.faults.fleet import FleetSoak
from tests.faults.hammer import hammer
from tests.faults.isolation import NEIGHBOURS, beside, quiet_while_away
from tests.faults.large import LargeTransfer
from tests.faults.matrix import play
from tests.faults.onlookers import WatchedSoak
from tests.faults.pairs import combinations, mirrored_in
from tests.faults.places import PLACES, play_in
from tests.faults.power import PowerLoss
from tests.faults.runners import EARLY_STOPS, STOPS, frozen_at
from tests.faults.scenes import Case
from tests.faults.servers import stopped_during, survive
from tests.faults.shaped import SHAPES, missing, send_over
from tests.faults.troubles import TROUBLES, missing_for
from tests.ledger.conformance.test_model import check_model
from tests.postgres import postgres_missing

WATCHED_KILLS = 50
MODEL_EXAMPLES, MODEL_STEPS = 230, 50
POWER_LOSSES = 12
FLEET_KILLS = 100
LARGE_KILLS = 8
AWAY = (("source", "gone"), ("target", "gone"), ("source", "keys_revoked"), ("target", "keys_revoked"),
        ("target", "cap_exceeded"))  # fmt: skip
Result = Awaitable[bool | str]


@dataclass(frozen=True)
class Line:
    """One row of the report."""

    part: str
    step: str
    fault: str
    seed: int
    result: str
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Act:
    """What comes to one row: its name, and how it is played (True, what to note, or False if it did not come there)."""

    part: str
    step: str
    fault: str
    play: Callable[[], Result]
    seed: int = 0

    @property
    def name(self) -> tuple[str, str, str, int]:
        """Tells it from every other act of the run."""
        return (self.part, self.step, self.fault, self.seed)

    async def line(self) -> Line:
        """Play it."""
        began_s = time.monotonic()
        try:
            told = await self.play()
            result, note = "ok", told if isinstance(told, str) else "" if told else "did not come there"
        except Exception as error:  # noqa: BLE001 - whatever comes out is the row's result
            result, note = f"{type(error).__name__}: {error}", ""
        return Line(*self.name, result, time.monotonic() - began_s, note)


def side_by_side(seed: int, kill_points: list[tuple[str, str, int]]) -> list[Act]:
    """What may be played by several processes at once, in a stable order."""
    acts = [
        Act("matrix", case.step, f"{case.fault}, {case.lasts}", partial(_matrix, case, seed + number), seed + number)
        for number, case in enumerate(catalogue())
    ]
    for scene, point, nth in kill_points:
        acts.append(Act("death", f"{point} ({scene})", f"kill -9 at passing {nth}", partial(die_at, scene, point, nth)))
    acts += [Act("drain", peer.step, f"SIGTERM, {peer.fault}", partial(drained_beside, peer)) for peer in PEERS]
    for verb in WRITES:
        for when in ("before", "after"):
            act = partial(drained_at, f"ledger.{verb}.{when}")
            acts.append(Act("drain", f"ledger write: {verb}", f"SIGTERM {when}", act))
    fault = "SIGSTOP past the lease, SIGCONT after the successor"
    acts += [Act("frozen", point, fault, partial(frozen_at, point)) for point in STOPS]
    for point in EARLY_STOPS:
        act = partial(frozen_at, point, early=True)
        acts.append(Act("frozen", point, "SIGSTOP past the lease, SIGCONT beside the successor", act))
    for number in range(POWER_LOSSES):
        fault = "power lost at random moments, then an older copy restored"
        acts.append(Act("power", "ledger", fault, partial(_power, seed + number), seed + number))
    for side, condition in AWAY:
        words = f"{condition.replace('_', ' ')} under a run that stays up, 240 files queued"
        acts.append(Act("isolation", side, words, partial(quiet_while_away, side, condition)))
    for writers, readers in ((2, 2), (6, 2)):
        words = f"{writers} processes write, checkpoint, open and close, {readers} read"
        acts.append(Act("locks", "ledger", words, partial(hammer, writers, readers)))
    for number, names in enumerate(combinations()):
        words = f"in {' and '.join(names)}"
        acts.append(
            Act(
                "surroundings",
                "kill -9, SIGTERM, and on",
                words,
                partial(mirrored_in, names, seed + number),
                seed + number,
            )
        )
    acts += [Act("places", words, "one mirror there", partial(play_in, words)) for words in PLACES]
    acts += [
        Act("commands", command.name, surrounding.name, partial(play_alone, command, surrounding))
        for command in COMMANDS
        for surrounding in SURROUNDINGS
    ]
    acts += of_servers()
    acts.append(Act("model", "ledger", "verbs in any order", _model))
    acts.append(Act("limiter", "requests", "limits, refusals at random, outages, in virtual time", _rate_laws))
    return acts


def of_servers() -> list[Act]:
    """Trouble of the PostgreSQL server that can be made here."""
    troubles = [trouble for trouble in TROUBLES if not missing_for(trouble)]
    acts = [Act("server", "two runs go on", trouble.words, partial(survive, trouble)) for trouble in troubles]
    stops = [trouble for trouble in troubles if not trouble.loses]
    return acts + [Act("server", "SIGTERM", trouble.words, partial(stopped_during, trouble)) for trouble in stops]


def alone(seed: int) -> list[Act]:
    """What is measured, and needs the machine for itself."""
    measured = [Act("isolation", "run", f"beside {item.words}", partial(beside, item)) for item in NEIGHBOURS]
    words = "kill -9 at random moments, 8 streams, parts of 16 MiB"
    measured += [Act("line", shape.words, "as it is", partial(send_over, shape)) for shape in SHAPES if not missing()]
    return [*measured, Act("large", "2 GB", words, LargeTransfer(seed, LARGE_KILLS).run, seed)]


def soak(seed: int, kills: int) -> list[Act]:
    """Random kills under load, one after the other."""
    return [Act("soak", "any moment", "kill -9 under load", partial(_soak, seed, kills), seed)]


def watched_soak(seed: int) -> list[Act]:
    """Random kills under load, beside an open page, a scraper and other commands; of one process, and of a fleet."""
    words = "kill -9 under load, the page open and scraped, other commands beside"
    acts = [Act("watched", "any moment", words, partial(WatchedSoak(seed).run, WATCHED_KILLS), seed)]
    if not postgres_missing():
        words = f"{words}; four processes on one PostgreSQL, which is killed as well"
        acts.append(Act("watched", "any moment", words, partial(FleetSoak(seed).run, FLEET_KILLS), seed))
    return acts


def unplayed(planned: list[Act], lines: list[Line]) -> list[Line]:
    """A row for each act that was not played exactly once."""
    times = Counter((line.part, line.step, line.fault, line.seed) for line in lines)
    return [Line(*act.name, f"was played {times[act.name]} times", 0.0) for act in planned if times[act.name] != 1]


async def _matrix(case: Case, seed: int) -> str:
    random.seed(seed)
    return await play(case)


async def _power(seed: int) -> str:
    loss = PowerLoss(seed)
    await loss.run()
    return f"{loss.copies} copies"


async def _model() -> str:
    made = await asyncio.to_thread(check_model, examples=MODEL_EXAMPLES, steps=MODEL_STEPS)
    return f"{made} steps in {MODEL_EXAMPLES} histories against a model of the statuses"


async def _rate_laws() -> str:
    played, broken = await asyncio.to_thread(large_grid, range(SEEDS))
    if broken:
        raise AssertionError(f"{len(broken)} of {played} laws: {broken[0]}")
    return f"{played} laws of the rate limiter, seeds 0 to {SEEDS - 1}"


async def _soak(seed: int, kills: int) -> str:
    played = Soak(seed)
    await played.run(kills)
    costs = sorted(played.costs)
    mean, most = sum(costs) / len(costs) / 2**20, costs[-1] / 2**20
    free = sum(not cost for cost in costs)
    sent = f"sent again for a kill: {mean:.1f} MiB on average, {most:.1f} at most, none for {free}"
    return f"{played.kills} kills in {played.starts} runs; {sent}"
