"""What the world does to a mirror: files that change under it, uploads that go, a whole side that is away or refuses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Literal

from polyb2.sandbox import Answer, Call, Drip, Fault, Reset, Stall
from polyb2.sandbox.exchange import Exchange, Reply
from polyb2.sandbox.faults import Action
from tests.faults.scenes import Case, queued
from tests.faults.world import LARGE, SMALL, World

AWAY_S = 0.7
STORM_S = 1.5
PATIENT = {"polyb2_give_up": 20.0, "polyb2_part_tries": 10}


def outside_cases() -> Iterator[Case]:
    """All of them, in a stable order."""
    yield from _changed()
    yield from _back_again()
    yield from _behind_our_back()
    yield from _whole_side()
    yield from _in_the_middle()
    yield from _storms()


# -- the source changes ---------------------------------------------------------------------------------------------------

MOMENTS: dict[str, tuple[str, str, int, Literal["before", "after"]]] = {
    "between list and GET": ("source", "get", 0, "before"),
    "between two parts": ("source", "get", 1, "before"),
    "while a part is on its way": ("target", "upload_part", 1, "before"),
    "before Complete": ("target", "complete", 0, "before"),
    "after Complete": ("target", "complete", 0, "after"),
}
CHANGES: dict[str, Callable[[World, str], None]] = {
    "replaces": World.replace,
    "replaces by as many bytes": World.retouch,
    "takes away": World.withdraw,
}


def _changed() -> Iterator[Case]:
    """The source changes a file at some moment; with If-Match honoured, and ignored."""
    for key, what in ((LARGE, "large"), (SMALL, "small")):
        for verb, change in CHANGES.items():
            for moment, (side, operation, skip, when) in MOMENTS.items():
                if key == SMALL and (skip or side == "target"):
                    continue
                for honours in (True, False):

                    def arm(
                        world: World,
                        key: str = key,
                        change: Callable[[World, str], None] = change,
                        place: tuple[str, str, int, Literal["before", "after"]] = (side, operation, skip, when),
                        honours: bool = honours,
                    ) -> None:
                        side, operation, skip, when = place
                        world.box.source.honours_if_match = honours
                        call = Call(lambda: change(world, key), when)
                        world.server(side).inject(Fault(operation, call, key=key, skip=skip))

                    ignored = "" if honours else ", If-Match ignored"
                    yield Case("source", f"{verb} the {what} file {moment}{ignored}", "once", arm, queued)


def _back_again() -> Iterator[Case]:
    """A file is replaced between two parts, and is what it was again before the next."""

    def arm(world: World) -> None:
        source, first = world.box.source, world.newest(LARGE)
        source.inject(Fault("get", Call(lambda: world.replace(LARGE)), key=LARGE, skip=1))
        source.inject(Fault("get", Call(lambda: world.publish(LARGE, first)), key=LARGE, skip=2))

    yield Case("source", "replaces the large file and puts it back", "once", arm, queued)


# -- the target changes ---------------------------------------------------------------------------------------------------


def _behind_our_back() -> Iterator[Case]:
    def drop(world: World) -> None:
        for upload in world.box.target.open_uploads():
            world.box.target.drop_upload(upload.upload_id)

    for operation, part in (("upload_part", 1), ("upload_part", 3), ("complete", None)):
        for lasts, times in (("once", 1), ("always", 0)):

            def arm(world: World, operation: str = operation, part: int | None = part, times: int = times) -> None:
                call = Call(lambda: drop(world))
                world.box.target.inject(Fault(operation, call, part=part, times=times))

            what = f"aborted behind our back at {operation} {part or ''}".strip()
            yield Case("upload", what, lasts, arm, queued, heals=lasts == "once")


# -- a whole side ---------------------------------------------------------------------------------------------------------


def _whole_side() -> Iterator[Case]:
    """It refuses, throttles or misleads everybody from the start, and no file is charged for it."""
    for side, attribute, value, words in _CONDITIONS:

        def arm(world: World, side: str = side, attribute: str = attribute, value: object = value) -> None:
            setattr(world.server(side), attribute, value)

        yield Case(side, words, "always", arm, queued, free=True)
    for side in ("source", "target"):
        for fault, action in {
            "throttles for ever": Answer(503, "SlowDown"),
            "resets every connection": Reset("before"),
            "answers nothing": Stall(),
            "is a proxy's error page": Answer(502, html=True),
        }.items():

            def all_of_it(world: World, side: str = side, action: Action = action) -> None:
                world.server(side).inject(Fault("*", action, times=0))

            yield Case(side, fault, "always", all_of_it, queued, free=True)

        def soon_over(world: World, side: str = side) -> None:
            world.server(side).inject(Fault("*", Reset("before"), times=12))

        yield Case(side, "is away for a while", "once", soon_over, queued, heals=True)


_CONDITIONS: tuple[tuple[str, str, object, str], ...] = (
    ("source", "keys_revoked", True, "keys revoked"),
    ("target", "keys_revoked", True, "keys revoked"),
    ("source", "clock_offset_s", 3600.0, "clock an hour ahead"),
    ("target", "clock_offset_s", 3600.0, "clock an hour ahead"),
    ("source", "clock_offset_s", -3600.0, "clock an hour behind"),
    ("target", "clock_offset_s", -3600.0, "clock an hour behind"),
    ("target", "cap_exceeded", True, "cap exceeded"),
)


def _in_the_middle() -> Iterator[Case]:
    """The same while parts are on their way: until somebody cures it, or until it passes under a run that stays up."""
    for side, attribute, value, words in _CONDITIONS:
        for lasts in ("always", "once"):

            def arm(
                world: World, side: str = side, attribute: str = attribute, value: object = value, lasts: str = lasts
            ) -> None:
                server = world.server(side)
                before = getattr(server, attribute)

                def strike() -> None:
                    setattr(server, attribute, value)
                    if lasts == "once":
                        asyncio.get_running_loop().call_later(AWAY_S, setattr, server, attribute, before)

                operation, skip = ("get", 1) if side == "source" else ("upload_part", 1)
                server.inject(Fault(operation, Call(strike), key=LARGE, skip=skip))

            passes = lasts == "once"
            yield Case(
                side, f"{words} in the middle of a file", lasts, arm, queued, heals=passes, watched=passes, free=True
            )

    def cap_for_a_while(world: World) -> None:
        target = world.box.target

        def strike() -> None:
            target.cap_exceeded = True
            asyncio.get_running_loop().call_later(AWAY_S, setattr, target, "cap_exceeded", False)

        target.inject(Fault("upload_part", Call(strike), skip=1))

    words = "cap exceeded, and raised while the run waits"
    yield Case("target", words, "once", cap_for_a_while, queued, heals=True, free=True, settings=PATIENT)


# -- storms ---------------------------------------------------------------------------------------------------------------


class Sometimes(Action):
    """One of several actions on a share of the requests."""

    def __init__(self, actions: list[Action], share: float, seed: int) -> None:
        self._actions = actions
        self._share = share
        self._chance = random.Random(seed)
        self._struck: dict[int, Action] = {}

    async def before(self, exchange: Exchange) -> Reply | None:
        if self._chance.random() >= self._share:
            return None
        action = self._chance.choice(self._actions)
        instead = await action.before(exchange)
        if instead is None:
            self._struck[id(exchange)] = action
        return instead

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        action = self._struck.pop(id(exchange), None)
        return reply if action is None else await action.after(exchange, reply)


def _storms() -> Iterator[Case]:
    """Much goes wrong for a while, or a part of everything all the time; the run gets through."""
    slow_down = Answer(503, "SlowDown", headers={"Retry-After": "1"})
    mixed: list[Action] = [
        Answer(500, "InternalError", "Please retry your upload"),
        Answer(503, "ServiceUnavailable", "no tomes available"),
        Answer(500, "InternalError", took_place=True),
        Reset("before"),
        Reset("after"),
    ]
    for side in ("source", "target"):

        def throttles(world: World, side: str = side) -> None:
            storm = world.server(side).inject(Fault("*", slow_down, skip=2, times=0))

            async def pass_by() -> None:
                storm.times = -1

            world.later(STORM_S, pass_by)

        yield Case(side, "a storm of SlowDown", "once", throttles, queued, heals=True, free=True, settings=PATIENT)
        for seed in (1, 2, 3):

            def mixes(world: World, side: str = side, seed: int = seed) -> None:
                world.server(side).inject(Fault("*", Sometimes(mixed, 0.3, seed), times=0))

            yield Case(side, f"a third of all fails, mix {seed}", "once", mixes, queued, heals=True, settings=PATIENT)

    def drips(world: World) -> None:
        world.box.source.inject(Fault("get", Drip(8 << 20), times=0))

    yield Case("source", "slow drip", "always", drips, queued, heals=True)
