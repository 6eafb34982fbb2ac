"""Strange places: what containers, cron, systemd, shells, limits, locales, clocks and other people's settings do to a run.

Each place mirrors three files for real, or says in words why it cannot; a traceback, an error that is called unexpected, a
process that has to be killed, or a ledger that is damaged is a violation everywhere.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from polyb2.sandbox import Drip, Fault
from tests.daemons import SETPRIV
from tests.faults.death import SYNC, environment_of, killed
from tests.faults.onlookers import damage_of
from tests.faults.pairs import SIDES, certificate, serve_over_tls
from tests.faults.watch import must
from tests.faults.world import MIB, World, a_world

ENDS_WITHIN_S = 60.0
NOBODY = ("--reuid", "65534", "--regid", "65534", "--clear-groups")
_ALARMS = re.compile(r"Traceback|unexpected [A-Z]\w+|was never awaited|ResourceWarning|UnicodeEncodeError")
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
    alarm = _ALARMS.search(said.err)
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


# -- environments -----------------------------------------------------------------------------------------------------------

_ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "cron: no HOME, no LANG, no TERM, a minimal PATH": {"PATH": "/usr/bin:/bin"},
    "HOME is a file, XDG folders are nowhere": {"HOME": "/etc/passwd", "XDG_CONFIG_HOME": "/dev/null/x"},
    "systemd's sockets and watchdog without systemd": {
        "NOTIFY_SOCKET": "/nonexistent", "LISTEN_FDS": "3", "LISTEN_PID": "1", "WATCHDOG_USEC": "1", "INVOCATION_ID": "x",
    },
    "PYTHONOPTIMIZE=2: no asserts, no docstrings": {"PYTHONOPTIMIZE": "2"},
    "PYTHONWARNINGS=error": {"PYTHONWARNINGS": "error"},
    "PYTHONDEVMODE=1 and asyncio's debugging": {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1", "PYTHONWARNINGS": "default"},
    "ASCII only: LC_ALL=POSIX, no coercion, no UTF-8 mode": {
        "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii",
    },
    "PYTHONSTARTUP, PYTHONHASHSEED, PYTHONUNBUFFERED and kin": {
        "PYTHONSTARTUP": "/nonexistent.py", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", "PYTHONVERBOSE": None,
        "PYTHONFAULTHANDLER": "1", "PYTHONNODEBUGRANGES": "1", "PYTHONMALLOC": "debug",
    },
    "LD_PRELOAD of a library that is not there": {"LD_PRELOAD": "/nonexistent/lib.so"},
    "TZ names no time zone, no zone files": {"TZ": "Nowhere/Nothing", "PYTHONTZPATH": ""},
    "TZ is a file that is none": {"TZ": ":/etc/passwd"},
    "an environment of two megabytes": {f"FILLER_{number}": "x" * 100_000 for number in range(15)},
    "a WORKER_ID with control characters": {"WORKER_ID": "wörker\x1b[31m\r\n\u202e" * 3},
    "uvloop's and asyncio's switches of another program": {"UVLOOP_DEBUG": "1", "AIOHTTP_NO_EXTENSIONS": "1"},
    "colour forced, no terminal, a terminal of no size": {
        "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TERM": "dumb", "COLUMNS": "-3", "LINES": "zero",
    },
}  # fmt: skip


def _in_environment(env: dict[str, str | None]) -> Play:
    async def play(world: World) -> str:
        there = Place(world, env=env)
        note = await there.mirrors()
        for words in (("status",), ("files",), ("status", "--json"), ("--help",)):
            said = await there.say(*words)
            must(said.code == 0, f"{' '.join(words)} ended with {said.code}: {said.err[-300:]}")
            must(said.out.strip(), f"{' '.join(words)} prints nothing")
            must(
                "\x1b[31m" not in said.out and "\u202e" not in said.out, f"{' '.join(words)} prints control characters"
            )
        return note

    return play


for _words, _env in _ENVIRONMENTS.items():
    place(_words)(_in_environment(_env))


@place("PYTHONPATH and working folder with modules that shadow the standard library's")
async def _shadowed(world: World) -> str:
    for name in ("queue", "select", "yarl", "token", "calendar", "secrets", "status", "core", "polyb2"):
        (world.folder / f"{name}.py").write_text("raise SystemExit('a stranger was imported')\n")
    return await Place(world, python=(str(Path(sys.executable).with_name("polyb2")),)).mirrors()


@place("a WORKER_ID of 100 kB")
async def _long_worker_id(world: World) -> str:
    return await Place(world, env={"WORKER_ID": "w" * 100_000}).refuses("WORKER_ID", 2)


@place("a Turkish locale", "localedef")
async def _turkish(world: World) -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = await asyncio.create_subprocess_exec(
            "localedef", "-i", "tr_TR", "-f", "UTF-8", f"{folder}/tr_TR.UTF-8", stderr=asyncio.subprocess.DEVNULL
        )
        if await made.wait() > 1:
            return "skipped: no source of the locale (tools/install-fault-tools.sh)"
        env = {"LOCPATH": folder, "LC_ALL": "tr_TR.UTF-8", "LANGUAGE": "tr"}
        return await Place(world, env=env).mirrors()


# -- standard streams and terminals -----------------------------------------------------------------------------------------

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
    await _until_asked(world, process)
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), 15)
    except TimeoutError:
        must(False, "a SIGTERM that was blocked at birth never drains it")
    finally:
        await killed(process)
    return f"drained with {process.returncode}"


async def _until_asked(world: World, process: asyncio.subprocess.Process) -> None:
    """Until the process has asked one of the servers."""
    async with asyncio.timeout(ENDS_WITHIN_S):
        while not [*world.box.source.requests, *world.box.target.requests]:
            must(process.returncode is None, f"it ended by itself with {process.returncode}")
            await asyncio.sleep(0.02)


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
    must(code == 0 and not _ALARMS.search(text), f"ended with {code}: {text[-400:]}")
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


# -- limits -----------------------------------------------------------------------------------------------------------------


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


# -- places of the ledger ---------------------------------------------------------------------------------------------------

_FOLDERS = {
    "spaces, quotes, a newline and URL signs": b"a b'\"\n?#%20&;$(x)",
    "bytes that are no UTF-8": b"caf\xe9-\xff",
    "a bidi mark and an escape": "\u202eabc\x1b[31m".encode(),
    "a name of 255 bytes": b"n" * 255,
}


def _in_folder(name: bytes) -> Play:
    async def play(world: World) -> str:
        folder = os.fsencode(world.folder) + b"/" + name
        os.mkdir(folder)  # noqa: PTH102 - bytes
        datasets = "us_stocks_sip/day_aggs_v1,us_options_opra/quotes_v1"
        env = {"DATABASE_URL": "sqlite:///ledger.db", "POLYB2_DATASETS": datasets}
        there = Place(world, env=env, named={"cwd": folder})
        said = await there.say(*SYNC)
        must(said.code == 0, f"ended with {said.code}: {said.err[-400:]}")
        for words in (("status",), ("doctor",), ("status", "--json"), ("doctor", "--json")):
            said = await there.say(*words)
            must(said.code in {0, 3}, f"{' '.join(words)} ended with {said.code}: {said.err[-400:]}")
            must("\x1b[31m" not in said.out + said.err, f"{' '.join(words)} prints control characters")
        must(os.path.exists(folder + b"/ledger.db"), "the ledger is somewhere else")  # noqa: PTH110 - bytes
        return "mirrored"

    return play


for _words, _name in _FOLDERS.items():
    place(f"a working folder with {_words}")(_in_folder(_name))


@place("a path of 3,000 bytes")
async def _long_path(world: World) -> str:
    folder = world.folder
    for _ in range(14):
        folder = folder / ("d" * 200)
    folder.mkdir(parents=True)
    env = {"DATABASE_URL": f"sqlite:///{folder}/ledger.db"}
    said = await Place(world, env=env).say(*SYNC)
    must(said.code in {0, 2}, f"ended with {said.code}: {said.err[-300:]}")
    must(said.code == 0 or "permissions" not in said.err, f"the advice is wrong: {said.err[-300:]}")
    return f"ended with {said.code}: {said.err.strip()[-100:]}"


@place("a working folder that is removed")
async def _no_folder(world: World) -> str:
    (world.folder / "gone").mkdir()
    there = Place(world, before=("sh", "-c", f'cd {world.folder}/gone && rmdir ../gone && exec "$@"', "sh"))
    note = await there.mirrors()
    relative = Place(world, before=there.before, env={"DATABASE_URL": "sqlite:///ledger.db"})
    (world.folder / "gone").mkdir()
    return f"{note}; with a relative DATABASE_URL {await relative.refuses('folder|directory', 2)}"


@place("DATABASE_URL with escapes and a query")
async def _escapes(world: World) -> str:
    notes = []
    for url in (
        "sqlite:///my%20ledger.db",
        "sqlite:///ledger.db?mode=ro",
        "sqlite:///ledger.db#x",
        "sqlite:////",
        "sqlite://",
    ):
        said = await Place(world, env={"DATABASE_URL": url}).say(*SYNC)
        must(said.code in {0, 2}, f"{url} ended with {said.code}: {said.err[-300:]}")
        made = sorted(path.name for path in world.folder.iterdir() if path.name.endswith(("db", "ro", "#x")))
        notes.append(f"{url}: {said.code} {made}")
        for path in world.folder.iterdir():
            if path.is_file():
                path.unlink()
    return "; ".join(notes)


def _in_mounts(script: str) -> tuple[str, ...]:
    """In a mount namespace of its own, after a script."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{script}\nexec "$@"', "sh")


@place("a read-only root, no /tmp, /dev/shm of 4 kB", "root unshare")
async def _read_only(world: World) -> str:
    script = (
        f"mount --bind {world.folder} {world.folder}\nmount -o remount,ro,bind /\n"
        "mount -t tmpfs -o size=4k,nr_inodes=2 none /dev/shm"
    )
    return await Place(world, before=_in_mounts(script), env={"PYTHONDONTWRITEBYTECODE": None}).mirrors()


@place("no /proc", "root unshare")
async def _no_proc(world: World) -> str:
    return await Place(world, before=_in_mounts("mount -t tmpfs none /proc")).mirrors()


@place("no /dev/urandom and no /dev/null", "root unshare")
async def _no_dev(world: World) -> str:
    return await Place(world, before=_in_mounts("mount -t tmpfs none /dev")).mirrors()


@place("a file system without a free inode", "root unshare")
async def _no_inodes(world: World) -> str:
    (world.folder / "small").mkdir()
    script = f"mount -t tmpfs -o nr_inodes=3 none {world.folder}/small; touch {world.folder}/small/filler"
    env = {"DATABASE_URL": f"sqlite:///{world.folder}/small/ledger.db"}
    return await Place(world, before=_in_mounts(script), env=env).refuses("ledger", 1, 2, 4)


@place("a file system of 200 kB", "root unshare")
async def _no_room(world: World) -> str:
    (world.folder / "small").mkdir()
    script = f"mount -t tmpfs -o size=200k none {world.folder}/small"
    env = {"DATABASE_URL": f"sqlite:///{world.folder}/small/ledger.db"}
    return await Place(world, before=_in_mounts(script), env=env).refuses("ledger", 1, 2, 4)


@place("umask 777 as an ordinary user", "root")
async def _umask_777(world: World) -> str:
    os.chown(world.folder, 65534, 65534)
    # The mask first: once the user is changed, the interpreter may be where that user may not look.
    before = ("sh", "-c", 'umask 777; exec "$@"', "sh", str(SETPRIV), *NOBODY)
    said = await Place(world, before=before).say(*SYNC)
    must(said.code in {0, 2}, f"ended with {said.code}: {said.err[-300:]}")
    return f"ended with {said.code}: {said.err.strip()[-160:]}"


# -- containers -------------------------------------------------------------------------------------------------------------

_CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "sh", "-c")
"""Everything is process 1 and has the same host name."""


@place("process 1 of a container, stopped by SIGTERM", "root unshare")
async def _process_1(world: World) -> str:
    there = Place(world, before=(*_CONTAINER, 'hostname box; exec "$@"', "sh"))
    process = await there.start("run", "--watch")
    await _until_asked(world, process)
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
    await _until_asked(world, first)
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


# -- refused system calls ---------------------------------------------------------------------------------------------------

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


# -- time -------------------------------------------------------------------------------------------------------------------


@place("suspended for longer than its lease, nobody else there")
async def _suspended(world: World) -> str:
    there = Place(world)
    process = await there.start(*SYNC)
    await _until_asked(world, process)
    for _ in range(3):
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(2.5)
            process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.2)
    said = await ended(process)
    must(said.code == 0, f"ended with {said.code}: {said.err[-300:]}")
    await world.check_after()
    return "mirrored"


@place("the clock a year behind from the start", "faketime")
async def _year_behind(world: World) -> str:
    return await Place(world, before=("faketime", "-m", "-f", "-1y")).refuses("clock", 4)


@place("the clock jumps a year ahead and back under a run", "faketime")
async def _clock_jumps(world: World) -> str:
    wanted = world.folder / "clock"
    wanted.write_text("+0")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    env: dict[str, str | None] = {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(wanted), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "POLYB2_GIVE_UP": "30s",
    }  # fmt: skip
    process = await Place(world, env=env).start(*SYNC)
    await _until_asked(world, process)
    for offset in ("+1y", "-1y", "+0"):
        wanted.write_text(offset)
        await asyncio.sleep(0.4)
    said = await ended(process)
    must(said.code in {0, 4}, f"ended with {said.code}: {said.err[-300:]}")
    charged = [row["key"] for row in await world.rows() if row["retry_count"]]
    must(not charged, f"a retry was charged to {charged}")
    await Place(world).mirrors()
    return f"ended with {said.code}: {said.err.strip()[-160:]}"


# -- names and addresses ----------------------------------------------------------------------------------------------------


class _Relays:
    """The servers, reached through relays, on another address; ``freeze`` makes all connections half-open."""

    def __init__(self, world: World, address: str) -> None:
        self.env: dict[str, str | None] = {}
        self._world = world
        self._address = address
        self._servers: list[asyncio.Server] = []
        self._frozen: list[asyncio.Event] = []

    async def __aenter__(self) -> Self:
        for side, name in (("source", "POLYGON_S3_ENDPOINT_URL"), ("target", "B2_ENDPOINT_URL")):
            server = await asyncio.start_server(self._passing(self._world.server(side).port), self._address, 0)
            self._servers.append(server)
            host = f"[{self._address}]" if ":" in self._address else self._address
            self.env[name] = f"http://{host}:{server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()

    def freeze(self) -> int:
        """No byte passes any more on the connections that there are, and neither end hears of it; how many there are."""
        for frozen in self._frozen:
            frozen.set()
        return len(self._frozen)

    def _passing(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            frozen = asyncio.Event()
            self._frozen.append(frozen)

            async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                with suppress(OSError):
                    while data := await source.read(1 << 16):
                        if frozen.is_set():
                            return
                        sink.write(data)
                        await sink.drain()
                sink.close()

            await asyncio.gather(carry(reader, back), carry(there, writer))

        return passing


@place("the way is cut in mid-run, and neither end hears of it")
async def _half_open(world: World) -> str:
    world.box.source.inject(Fault("get", Drip(4 * MIB), times=0))
    async with _Relays(world, "127.0.0.1") as relays:
        process = await Place(world, env=relays.env | {"POLYB2_STALL_TIMEOUT": "2s"}).start(*SYNC)
        await _until_asked(world, process)
        await asyncio.sleep(1)
        cut = relays.freeze()
        said = await ended(process)
    must(said.code == 0, f"ended with {said.code}: {said.err[-400:]}")
    await world.check_after()
    return f"mirrored, {cut} connections were cut"


@place("IPv6 only: [::1] in the endpoints and for the page")
async def _ipv6(world: World) -> str:
    async with _Relays(world, "::1") as relays:
        return await Place(world, env=relays.env | {"POLYB2_HTTP_ADDR": "[::1]:0"}).mirrors()


@place("a name with two addresses, one of them dead", "root unshare")
async def _dead_address(world: World) -> str:
    hosts = world.folder / "hosts"
    hosts.write_text("127.0.0.9 localhost\n127.0.0.1 localhost\n::1 localhost\n")
    env: dict[str, str | None] = {
        "POLYGON_S3_ENDPOINT_URL": f"http://localhost:{world.box.source.port}",
        "B2_ENDPOINT_URL": f"http://localhost:{world.box.target.port}",
    }
    return await Place(world, before=_in_mounts(f"mount --bind {hosts} /etc/hosts"), env=env).mirrors()


class _Names(asyncio.DatagramProtocol):
    """A name server that answers late, and every other time with a dead address first."""

    def __init__(self, late_s: float) -> None:
        self.asked = 0
        self._late_s = late_s
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.asked += 1
        end = data.index(b"\0", 12) + 5
        wanted = int.from_bytes(data[end - 4 : end - 2], "big")
        addresses = [(127, 0, 0, 9), (127, 0, 0, 1)][:: 1 if self.asked % 2 else -1] if wanted == 1 else []
        answers = b"".join(b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04" + bytes(address) for address in addresses)
        head = data[:2] + b"\x81\x80\0\x01" + len(addresses).to_bytes(2, "big")
        answer = head + b"\0\0\0\0" + data[12:end] + answers
        transport = self._transport
        if transport is not None:
            asyncio.get_running_loop().call_later(self._late_s, transport.sendto, answer, addr)


@place("names that are answered after two seconds, a dead address among them", "root unshare openssl")
async def _slow_names(world: World) -> str:
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(lambda: _Names(2.0), ("127.0.0.53", 53))
    (world.folder / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    try:
        async with _over_tls(world) as env:
            before = _in_mounts(f"mount --bind {world.folder}/resolv.conf $(realpath /etc/resolv.conf)")
            note = await Place(world, before=before, env=env | {"POLYB2_GIVE_UP": "30s"}).mirrors()
    finally:
        transport.close()
    must(names.asked, "the name server was never asked")
    return f"{note}, {names.asked} questions"


@asynccontextmanager
async def _over_tls(world: World, *made_by: str) -> AsyncIterator[dict[str, str | None]]:
    """Both sides under names, with a certificate of their own."""
    with tempfile.TemporaryDirectory(prefix="polyb2-tls-") as folder:
        path = Path(folder)
        names = [f"{side}.example" for side in SIDES]
        certificate(path, names, *made_by)
        await serve_over_tls(world, path)
        env: dict[str, str | None] = {"SSL_CERT_FILE": str(path / "ours.pem")}
        env |= {name: f"https://{side}.example:{world.server(side).port}" for side, name in SIDES.items()}
        yield env


@place("certificates that expired yesterday", "root unshare openssl faketime")
async def _expired(world: World) -> str:
    async with _over_tls(world, "faketime", "-f", "-3d") as env:
        return await _named(world, env).refuses("expired", 4)


@place("certificates that are renewed under a run", "root unshare openssl")
async def _renewed(world: World) -> str:
    world.box.source.inject(Fault("get", Drip(4 * MIB), times=0))
    with tempfile.TemporaryDirectory(prefix="polyb2-tls-") as newer:
        made = certificate(Path(newer), [f"{side}.example" for side in SIDES])
        async with _over_tls(world) as env:
            # Both are trusted from the start, as two of one authority would be.
            trusted = Path(str(env["SSL_CERT_FILE"]))
            trusted.write_bytes(trusted.read_bytes() + made.read_bytes())
            process = await _named(world, env | {"POLYB2_GIVE_UP": "30s"}).start(*SYNC)
            await _until_asked(world, process)
            await serve_over_tls(world, Path(newer))
            said = await ended(process)
    must(said.code == 0, f"ended with {said.code}: {said.err[-400:]}")
    await world.check_after()
    return "mirrored"


def _named(world: World, env: dict[str, str | None]) -> Place:
    """Where the names of both sides lead to this machine."""
    hosts = world.folder / "hosts"
    hosts.write_text("127.0.0.1 localhost source.example target.example\n")
    return Place(world, before=_in_mounts(f"mount --bind {hosts} /etc/hosts"), env=env)
