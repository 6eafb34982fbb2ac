"""Standard streams, signals and terminals as shells, supervisors and ``nohup`` leave them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress

from tests.faults.death import SYNC, environment_of, killed
from tests.faults.places.place import (
    ALARMS,
    ENDS_WITHIN_S,
    PYTHON,
    Place,
    Play,
    place,
    until_asked,
)
from tests.faults.watch import must
from tests.faults.world import World

_SHELL = {
    "all standard streams closed": 'exec "$@" <&- >&- 2>&-',
    "stdin closed": 'exec "$@" <&-',
    "stdout closed": 'exec "$@" >&-',
    "SIGTERM, SIGINT, SIGHUP and SIGPIPE ignored from birth": "trap '' TERM INT HUP PIPE; exec \"$@\"",
    "umask 000": 'umask 000; exec "$@"',
    "a nice of 19 and the lowest class of I/O": 'exec nice -n 19 ionice -c 3 "$@"',
}


def _in_shell(script: str) -> Play:
    async def play(world: World) -> str:
        there = Place(world, before=("sh", "-c", script, "sh"))
        note = await there.mirrors()
        open_to_others = [
            path.name
            for path in world.folder.iterdir()
            if path.name.startswith("ledger") and path.stat().st_mode & 0o077
        ]
        must(not open_to_others, f"others may read {open_to_others}")
        return note

    return play


for _words, _script in _SHELL.items():
    place(_words)(_in_shell(_script))


@place("stdout and stderr on a full disk")
async def _full_disk(world: World) -> str:
    said = await Place(world, before=("sh", "-c", 'exec "$@" >/dev/full 2>/dev/full', "sh")).say(*SYNC)
    must(said.code in {0, 1}, f"ended with {said.code}")
    await world.check_after()
    return f"mirrored, and ended with {said.code}"


@place("blocked SIGTERM, as inherited from a supervisor", "env")
async def _blocked(world: World) -> str:
    there = Place(world, before=("env", "--block-signal=TERM"))
    process = await there.start("run", "--watch")
    await until_asked(world, process)
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), 15)
    except TimeoutError:
        must(False, "a SIGTERM that was blocked at birth never drains it")
    finally:
        await killed(process)
    return f"drained with {process.returncode}"


@place("a terminal of one cell, resized all the time", "script")
async def _tiny_terminal(world: World) -> str:
    import fcntl  # noqa: PLC0415 - not everywhere
    import pty  # noqa: PLC0415
    import struct  # noqa: PLC0415
    import termios  # noqa: PLC0415

    ours, theirs = pty.openpty()

    def resize(rows: int, columns: int) -> None:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    resize(1, 1)
    environment = environment_of(world) | {"LOG_LEVEL": "INFO"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *PYTHON, *SYNC, cwd=world.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    shown = asyncio.create_task(_drain(ours))
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            number = 0
            while process.returncode is None:
                number += 1
                resize(number % 7, number * 13 % 200)
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGWINCH)
                await asyncio.sleep(0.01)
    finally:
        code = await killed(process)
        os.close(theirs)
        text = await shown
        os.close(ours)
    must(code == 0 and not ALARMS.search(text), f"ended with {code}: {text[-400:]}")
    await world.check_after()
    return f"mirrored under {number} resizes"


async def _drain(descriptor: int) -> str:
    """Everything that a terminal is shown, until nobody holds its other end."""

    def read() -> bytes:
        had = b""
        with suppress(OSError):
            while data := os.read(descriptor, 1 << 16):
                had += data
        return had

    return (await asyncio.to_thread(read)).decode(errors="replace")
