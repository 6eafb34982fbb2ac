"""What a strange place is, and how it is played: the mirror is whole there, or the run says what is in its way."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.death import SYNC, environment_of, killed
from tests.faults.watch import must
from tests.faults.witnesses import damage_of
from tests.faults.world import World, a_world

ENDS_WITHIN_S = 60.0
NOBODY = ("--reuid", "65534", "--regid", "65534", "--clear-groups")
ALARMS = re.compile(r"Traceback|unexpected [A-Z]\w+|was never awaited|ResourceWarning|UnicodeEncodeError")
PYTHON = ("-m", "polyb2")


@dataclass(frozen=True)
class Said:
    """A command that ended."""

    code: int
    out: str
    err: str


@dataclass
class Place:
    """Where a command runs.

    Attributes:
        world: its servers and the folder of its ledger.
        before: a command that runs it.
        env: what is set beside, or instead of, the world's settings; None takes a name away.
        named: how the process is made otherwise (``cwd``, ``stdin``, ``preexec_fn``).
    """

    world: World
    before: Sequence[str] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    named: Mapping[str, Any] = field(default_factory=dict)
    python: Sequence[str] = PYTHON

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        given = {"POLYB2_GIVE_UP": "3s", "LOG_LEVEL": "INFO"} | environment_of(self.world) | dict(self.env)
        environment = {name: value for name, value in given.items() if value is not None}
        named: dict[str, Any] = {"cwd": self.world.folder, "stdin": asyncio.subprocess.DEVNULL} | dict(self.named)
        return await asyncio.create_subprocess_exec(
            *self.before, sys.executable, *self.python, *words, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **named,
        )  # fmt: skip

    async def say(self, *words: str) -> Said:
        """Run a command to its end."""
        return await ended(await self.start(*words))

    async def mirrors(self) -> str:
        """The mirror comes to its end here, and is whole."""
        said = await self.say(*SYNC)
        must(said.code == 0, f"ended with {said.code}: {said.err[-600:]}")
        await self.world.check_after()
        return "mirrored"

    async def refuses(self, words: str, *codes: int) -> str:
        """The mirror is refused, or given up, in words that name the cause."""
        said = await self.say(*SYNC)
        must(said.code in codes, f"ended with {said.code}: {said.err[-600:]}")
        must(re.search(words, said.err), f"does not say {words!r}: {said.err[-600:]}")
        return f"ended with {said.code}: {said.err.strip().splitlines()[-1][-160:]}"


async def ended(process: asyncio.subprocess.Process) -> Said:
    """Wait for a command; whatever it says anywhere must be meant for people."""
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            out, err = await process.communicate()
    except TimeoutError:
        must(False, f"did not end within {ENDS_WITHIN_S:g} s")
        raise
    finally:
        await killed(process)
    said = Said(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
    alarm = ALARMS.search(said.err)
    must(not alarm, f"{alarm and alarm[0]!r} with exit code {said.code}: {said.err[-600:]}")
    return said


Play = Callable[[World], Awaitable[str]]
PLACES: dict[str, Play] = {}


def place(words: str, needs: str = "") -> Callable[[Play], Play]:
    """A place by its words; where a program that it needs is not installed, or where we are not root, it is skipped."""

    def add(play: Play) -> Play:
        async def playing(world: World) -> str:
            for program in filter(None, needs.split()):
                if program == "root" and os.geteuid():
                    return "skipped: not root"
                if program != "root" and shutil.which(program) is None:
                    return f"skipped: {program} is not installed (tools/install-fault-tools.sh)"
            return await play(world)

        PLACES[words] = playing
        return play

    return add


async def play_in(words: str) -> str:
    """Play one place in a world of its own.

    Raises:
        ViolationError: it is not as it should be.
    """
    async with a_world() as world:
        note = await PLACES[words](world)
        ledger = world.folder / "ledger.db"
        if ledger.exists() and ledger.stat().st_size:
            must(not (damage := damage_of(ledger)), damage)
        return note


async def until_asked(world: World, process: asyncio.subprocess.Process) -> None:
    """Until the process has asked one of the servers."""
    async with asyncio.timeout(ENDS_WITHIN_S):
        while not [*world.box.source.requests, *world.box.target.requests]:
            must(process.returncode is None, f"it ended by itself with {process.returncode}")
            await asyncio.sleep(0.02)


def in_mounts(script: str) -> tuple[str, ...]:
    """In a mount namespace of its own, after a script."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{script}\nexec "$@"', "sh")
