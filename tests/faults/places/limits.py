"""Limits of a process and its system: memory, sizes, threads, and system calls that are refused."""

from __future__ import annotations

import os
from pathlib import Path

from tests.daemons import SETPRIV
from tests.faults.death import SYNC
from tests.faults.places.place import (
    NOBODY,
    Place,
    Play,
    place,
)
from tests.faults.watch import must
from tests.faults.world import World


@place("an address space of 2 GB", "prlimit")
async def _address_space(world: World) -> str:
    return await Place(world, before=("prlimit", f"--as={2 << 30}")).mirrors()


@place("files may not grow beyond 100 kB", "prlimit")
async def _file_size(world: World) -> str:
    there = Place(world, before=("prlimit", f"--fsize={100 << 10}"))
    note = await there.refuses("ledger", 1, 2, 3, 4)
    await Place(world).mirrors()
    return note


@place("no thread may be started", "prlimit root")
async def _no_threads(world: World) -> str:
    os.chown(world.folder, 65534, 65534)
    return await Place(world, before=("prlimit", "--nproc=1", str(SETPRIV), *NOBODY)).refuses("thread|process", 1, 2)


@place("200 MB of memory, 32 streams, a large file", "root")
async def _memory(world: World) -> str:
    group = Path("/sys/fs/cgroup/memory")
    if not (group / "memory.limit_in_bytes").exists():
        return "skipped: no memory controller of the first version"
    ours = group / f"polyb2-{os.getpid()}"
    ours.mkdir()
    try:
        (ours / "memory.limit_in_bytes").write_text(str(200 << 20))
        before = ("sh", "-c", f'echo $$ > {ours}/cgroup.procs; exec "$@"', "sh")
        note = await Place(world, before=before, env={"POLYB2_CONCURRENCY": "32"}).mirrors()
        peak = int((ours / "memory.max_usage_in_bytes").read_text()) >> 20
    finally:
        ours.rmdir()
    return f"{note}, {peak} MB at most"


_REFUSED = {
    "clone3 is not known, as in old containers": ("clone3:error=ENOSYS", True),
    "statx and faccessat2 are refused": ("statx,faccessat2:error=EPERM", True),
    "sched_getaffinity is refused": ("sched_getaffinity:error=EPERM", True),
    "no socket option may be set": ("setsockopt:error=EPERM", False),
    "flock is not known to the file system": ("flock:error=ENOLCK", False),
    "fdatasync fails now and then": ("fdatasync:error=EIO:when=9+7", False),
    "epoll_wait is interrupted all the time": ("epoll_wait,epoll_pwait:error=EINTR:when=5+3", True),
    "accept and connect run out of descriptors now and then": ("connect:error=EMFILE:when=2+5", True),
}


def _with_refusal(inject: str, *, harmless: bool) -> Play:
    async def play(world: World) -> str:
        there = Place(world, before=("strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"inject={inject}"))
        if harmless:
            return await there.mirrors()
        said = await there.say(*SYNC)
        must(said.code in {0, 1, 2, 3, 4}, f"ended with {said.code}: {said.err[-300:]}")
        await Place(world).mirrors()
        return f"ended with {said.code}: {said.err.strip()[-160:]}"

    return play


for _words, (_inject, _harmless) in _REFUSED.items():
    place(_words, "strace")(_with_refusal(_inject, harmless=_harmless))
