"""Containers: read-only, without /proc or /dev, process 1, and two that take themselves for one."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.faults.death import SYNC
from tests.faults.places.place import (
    Place,
    ended,
    in_mounts,
    place,
    until_asked,
)
from tests.faults.watch import must
from tests.faults.world import World


@place("a read-only root, no /tmp, /dev/shm of 4 kB", "root unshare")
async def _read_only(world: World) -> str:
    script = (
        f"mount --bind {world.folder} {world.folder}\nmount -o remount,ro,bind /\n"
        "mount -t tmpfs -o size=4k,nr_inodes=2 none /dev/shm"
    )
    return await Place(world, before=in_mounts(script), env={"PYTHONDONTWRITEBYTECODE": None}).mirrors()


@place("no /proc", "root unshare")
async def _no_proc(world: World) -> str:
    return await Place(world, before=in_mounts("mount -t tmpfs none /proc")).mirrors()


@place("no /dev/urandom and no /dev/null", "root unshare")
async def _no_dev(world: World) -> str:
    return await Place(world, before=in_mounts("mount -t tmpfs none /dev")).mirrors()


_CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "sh", "-c")
"""Everything is process 1 and has the same host name."""


@place("process 1 of a container, stopped by SIGTERM", "root unshare")
async def _process_1(world: World) -> str:
    there = Place(world, before=(*_CONTAINER, 'hostname box; exec "$@"', "sh"))
    process = await there.start("run", "--watch")
    await until_asked(world, process)
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGTERM)
    said = await ended(process)
    must(said.code in {0, 143}, f"ended with {said.code}: {said.err[-300:]}")
    return f"drained with {said.code}"


@place("two containers with one host name, both process 1, on one ledger; one is killed", "root unshare")
async def _twins(world: World) -> str:
    return await _two(world, Place(world, before=(*_CONTAINER, 'hostname box; exec "$@"', "sh")))


@place("two processes with one WORKER_ID on one ledger; one is killed")
async def _namesakes(world: World) -> str:
    return await _two(world, Place(world, env={"WORKER_ID": "worker-1"}))


async def _two(world: World, there: Place) -> str:
    first, second = await asyncio.gather(there.start(*SYNC), there.start(*SYNC))
    await until_asked(world, first)
    await asyncio.sleep(0.3)
    with suppress(ProcessLookupError):
        first.kill()
    await first.communicate()
    said = await ended(second)
    must(said.code in {0, 3}, f"the other ended with {said.code}: {said.err[-300:]}")
    return await there.mirrors()


@place("a host name of 64 letters, and none", "root unshare")
async def _host_names(world: World) -> str:
    for name in ("h" * 64, "''"):
        note = await Place(
            world, before=("unshare", "--uts", "sh", "-c", f'hostname {name} || true; exec "$@"', "sh")
        ).mirrors()
    return note


@place("a network namespace without any network", "root unshare")
async def _no_network(world: World) -> str:
    return await Place(world, before=("unshare", "--net")).refuses("connect|reach|network|answer", 4)
