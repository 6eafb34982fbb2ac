"""Environments that others set: cron's, systemd's, Python's, a locale's, and names that shadow modules."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.faults.places.place import (
    Place,
    Play,
    place,
)
from tests.faults.watch import must
from tests.faults.world import World

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
    "uvloop's and asyncio's switches of another program": {"UVLOOP_DEBUG": "1", "AIOHTTP_NO_EXTENSIONS": "1"},
    "temporary folders that are not there": {
        "TMPDIR": "/nonexistent", "TEMP": "/nonexistent", "SQLITE_TMPDIR": "/nonexistent", "XDG_RUNTIME_DIR": "/nonexistent",
    },
    "Python's import times, safe path and an empty PYTHONINSPECT": {
        "PYTHONPROFILEIMPORTTIME": "1",
        "PYTHONINSPECT": "",
        "PYTHONSAFEPATH": "1",
    },
    "a completion variable of a shell, left set": {"_POLYB2_COMPLETE": "", "COMP_WORDS": "polyb2 ", "COMP_CWORD": "1"},
    "a CA of other programs that is not there": {
        "REQUESTS_CA_BUNDLE": "/nonexistent", "CURL_CA_BUNDLE": "/nonexistent", "NODE_EXTRA_CA_CERTS": "/nonexistent",
        "SSL_CERT_DIR": "/nonexistent",
    },
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


@place("DATABASE_URL and LOG_LEVEL of another program")
async def _foreign_settings(world: World) -> str:
    urls = ("mysql://user:geheim@host/db", "redis://:geheim@cache:6379/0", "jdbc:sqlite:x", "sqlite+aiosqlite:///x.db")
    wrong = [("LOG_LEVEL", "trace"), *(("DATABASE_URL", url) for url in urls)]
    notes = [await Place(world, env={name: value}).refuses(name, 2) for name, value in wrong]
    must(not any("geheim" in note for note in notes), f"a password is shown: {notes}")
    return "; ".join(notes)


@place("a WORKER_ID with control characters")
async def _foreign_worker_id(world: World) -> str:
    return await Place(world, env={"WORKER_ID": "wörker\x1b[31m\r\n\u202e" * 3}).refuses("WORKER_ID", 2)


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
