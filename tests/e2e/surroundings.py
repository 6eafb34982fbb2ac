"""Other people's surroundings, and what a command must do in each: end as it does anywhere else, or say in words why not.

``tests/e2e/test_surroundings.py`` plays some pairs of command and surrounding, ``tests/faults`` all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import polyb2
from polyb2.sandbox import Sandbox
from tests.conftest import DAY_AGGS, Bench, Ended, key

DAY = "2024-01-02"
ORDINARY, NAMELESS = 65534, 54321
"""Users that are not root: one that has a name, and one that the system knows nothing of."""
NEVER = ("Traceback", "polyb2: unexpected", "Exception ignored", "Fatal Python error", "RuntimeWarning", "Segmentation")
ENDED_S = 60.0


@dataclass(frozen=True)
class Command:
    """A command line, the code that it ends with, and what it needs.

    Attributes:
        words: the command line.
        code: how it ends where nothing is in its way.
        prints: it writes to stdout, so that a full disk there is an error.
        writes: it writes the ledger.
        is_json: stdout is one JSON document, whatever the surroundings.
    """

    words: tuple[str, ...]
    code: int = 0
    prints: bool = True
    writes: bool = True
    is_json: bool = False

    @property
    def name(self) -> str:
        return " ".join(self.words)


COMMANDS = (
    Command(("--help",), writes=False),
    Command(("--version",), writes=False),
    Command(("plan", "--dates", DAY), writes=False),
    Command(("discover", "--dates", DAY)),
    Command(("discover", "--dates", DAY, "--json"), is_json=True),
    Command(("sync", "--dates", DAY)),
    Command(("run",)),
    Command(("status",), writes=False),
    Command(("status", "--json"), writes=False, is_json=True),
    Command(("files",), writes=False),
    Command(("coverage", "--dates", DAY), writes=False),
    Command(("datasets",), writes=False),
    Command(("verify", "--dates", DAY, "--json"), writes=False, is_json=True),
    Command(("retry", "--status", "failed_upload")),
    Command(("unqueue", key(DAY))),
    Command(("cleanup", "--dry-run"), writes=False),
    Command(("doctor", "--json"), is_json=True),
    Command(("ledger", "migrate")),
    Command(("ledger", "check", "--json"), writes=False, is_json=True),
    Command(("rebind",)),
    Command(("demo",), writes=False),
)


@dataclass(frozen=True)
class Surrounding:
    """Where a command finds itself.

    Attributes:
        name: of it.
        environment: variables that are set, or with None are not.
        arrange: prepares the working folder before the command starts there.
        shell: is run before the command, in the shell that becomes it.
        user: who runs it; None for whoever runs the tests.
        said: words of stderr; without any, stderr has no warning.
        judge: the code that a command must end with, where it is another one.
    """

    name: str
    environment: Mapping[str, str | None] = field(default_factory=dict)
    arrange: Callable[[Path], None] = lambda _folder: None
    shell: str = ":"
    user: int | None = None
    said: str = ""
    judge: Callable[[Command], int] = lambda command: command.code


def _aws(folder: Path) -> None:
    (folder / ".aws").mkdir()
    (folder / ".aws" / "config").write_text("[default]\nretry_mode = bananas\n[broken", encoding="utf-8")
    (folder / ".aws" / "credentials").write_text("[broken", encoding="utf-8")
    (folder / ".netrc").write_text("machine 127.0.0.1 login me password secret\n", encoding="utf-8")


def _closed(folder: Path) -> None:
    (folder / "closed").mkdir()
    (folder / "closed" / ".env").write_text("LOG_LEVEL=DEBUG\n", encoding="utf-8")


def _shut_dotenv(folder: Path) -> None:
    (folder / ".env").write_text("LOG_LEVEL=DEBUG\n", encoding="utf-8")
    (folder / ".env").chmod(0)
    if os.geteuid() == 0:
        os.chown(folder / ".env", 0, 0)


def _read_only(folder: Path) -> None:
    (folder / "read-only").mkdir()
    (folder / "read-only").chmod(0o555)


def _full(command: Command) -> int:
    return (command.code or 1) if command.prints else command.code


def _needs_a_ledger(command: Command) -> int:
    if command.words[0] == "doctor":
        return 4
    return 2 if command.writes else command.code


PROXIES = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
AWS = {"AWS_PROFILE": "work", "AWS_RETRY_MODE": "bananas", "AWS_USE_FIPS_ENDPOINT": "true", "AWS_CA_BUNDLE": "/nowhere"}
AWS |= {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_USE_DUALSTACK_ENDPOINT": "true", "HOME": "."}
FORMER_SESSIONS = dict.fromkeys(("SSH_CONNECTION", "DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"), "x")

SURROUNDINGS = (
    Surrounding("nothing in the way"),
    Surrounding("AWS's variables and files in a mess", AWS, _aws),
    Surrounding("proxies that lead nowhere", PROXIES),
    Surrounding("a SOCKS proxy for other hosts", {"https_proxy": "socks5://127.0.0.1:9", "http_proxy": "socks5h://x:1"}),
    Surrounding("HOME is not set", {"HOME": None, "USER": None, "LOGNAME": None}),
    Surrounding("HOME does not exist", {"HOME": "/nowhere/at/all"}),
    Surrounding("HOME cannot be read", {"HOME": "closed"}, _closed, shell="chmod 0 closed", user=ORDINARY),
    Surrounding("a user without a name", {"HOME": None}, user=NAMELESS),
    Surrounding("an ordinary user", user=ORDINARY),
    Surrounding("the working folder is gone", shell="mkdir gone && cd gone && rmdir ../gone"),
    Surrounding(
        "the working folder cannot be read", arrange=_closed, shell="cd closed && chmod 0 .", user=ORDINARY,
        said=".env is passed over: Permission denied",
    ),
    Surrounding("the working folder is read-only", arrange=_read_only, shell="cd read-only", user=ORDINARY),
    Surrounding(
        "the ledger's folder is read-only", {"DATABASE_URL": "sqlite:///read-only/polyb2.db"}, _read_only,
        user=ORDINARY, judge=_needs_a_ledger,
    ),
    Surrounding("a .env that may not be read", arrange=_shut_dotenv, user=ORDINARY, said=".env is passed over"),
    Surrounding("a .env that is a pipe", shell="mkfifo .env", said=".env is passed over: it is not a regular file"),
    Surrounding("a .env that is a folder", shell="mkdir .env", said=".env is passed over"),
    Surrounding("a mistyped name", {"POLYB2_CONCURENCY": "7"}, said="the nearest is POLYB2_CONCURRENCY"),
    Surrounding("values with quotes and line ends", {"POLYB2_DATASETS": f'"{DAY_AGGS}"\r\n', "B2_REGION": "'us-west-004'\n"}),
    Surrounding("stdin is closed", shell="exec 0<&-"),
    Surrounding("stdout is closed", shell="exec 1>&-"),
    Surrounding("stderr is closed", shell="exec 2>&-"),
    Surrounding("all three are closed", shell="exec 0<&- 1>&- 2>&-"),
    Surrounding("stdout is a full disk", shell="exec 1>/dev/full", judge=_full),
    Surrounding("stderr is a full disk", shell="exec 2>/dev/full"),
    Surrounding("LANG=C and ASCII only", {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}),
    Surrounding("a locale that is none", {"LANG": "xx_YY.bananas", "LC_ALL": "xx_YY.bananas", "LANGUAGE": "klingon"}),
    Surrounding("20 columns", {"COLUMNS": "20", "LINES": "5"}),
    Surrounding("columns that are no number", {"COLUMNS": "bananas", "LINES": "-1"}),
    Surrounding("TERM=dumb", {"TERM": "dumb"}),
    Surrounding("a terminal that nobody knows, colour forced", {"TERM": "bananas", "FORCE_COLOR": "1"}),
    Surrounding("NO_COLOR, no TERM", {"NO_COLOR": "1", "TERM": None}),
    Surrounding("TMPDIR does not exist", {"TMPDIR": "/nowhere/at/all"}),
    Surrounding("64 open files", {"POLYB2_CONCURRENCY": "8"}, shell="ulimit -n 64"),
    Surrounding("no core files, small stacks", shell="ulimit -c 0; ulimit -s 1024"),
    Surrounding("nice 19", shell='set -- nice -n 19 "$@"'),
    Surrounding("umask 077", shell="umask 077"),
    Surrounding("signals ignored from the start", shell="trap '' HUP INT PIPE"),
    Surrounding("a time zone that is none", {"TZ": "Mars/Olympus"}),
    Surrounding("no CA bundle where SSL_CERT_FILE says", {"SSL_CERT_FILE": "/nowhere.pem", "SSL_CERT_DIR": "/nowhere"}),
    Surrounding("no PATH", {"PATH": None}),
    Surrounding("a session's leftovers", {**FORMER_SESSIONS, "OLDPWD": "/nowhere", "PWD": "/nowhere", "SHLVL": "x"}),
    Surrounding("Python without docstrings", {"PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": "1"}),
)  # fmt: skip


@cache
def interpreter_of(user: int) -> str | None:
    """A Python that this user can run with our packages; root's own may lie in root's home."""
    for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
        given = {"PYTHONPATH": _packages()}
        words = f"import sys, polyb2.cli.main, aiohttp; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        try:
            done = subprocess.run(
                [python or "", "-c", words], env=given, cwd="/", user=user, group=user, extra_groups=[],
                capture_output=True, check=False,
            )  # fmt: skip
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def _packages() -> str:
    source = str(Path(polyb2.__file__).parents[1])
    return os.pathsep.join([source, *(path for path in sys.path if path.endswith("-packages"))])


def unplayable(surrounding: Surrounding) -> str:
    """Why it cannot be played here; nothing if it can."""
    if surrounding.user is None:
        return ""
    if os.geteuid() != 0:
        return "only root can become somebody else"
    return "" if interpreter_of(surrounding.user) else "no Python that an ordinary user can run"


async def play(bench: Bench, command: Command, surrounding: Surrounding) -> Ended:
    """Run a command in its surroundings, with a file that is queued.

    Raises:
        AssertionError: it did not do there what it must.
    """
    bench.box.source.put(key(DAY), b"x" * 1000)
    await bench.discover()
    surrounding.arrange(bench.folder)
    if surrounding.user is not None:
        _give_away(bench.folder, surrounding.user)
    ended = await _ended(bench, command, surrounding)
    words = f"{command.name}, {surrounding.name}: {ended}"
    assert not [never for never in NEVER if never in ended.err + ended.out], words
    assert ended.code == surrounding.judge(command), words
    if surrounding.said and command.words[0] not in {"--help", "--version"}:
        assert surrounding.said in ended.err, words
    else:
        assert "warning:" not in ended.err, words
    if command.is_json and ended.out:
        json.loads(ended.out)
    if "DATABASE_URL" not in surrounding.environment:  # another ledger, which may have nothing to print
        assert bool(ended.out) == (command.prints and "1>" not in surrounding.shell and ended.code != 2), words
    return ended


def _give_away(folder: Path, user: int) -> None:
    """The folder is this user's, and it can be reached."""
    for path in [folder, *folder.rglob("*")]:
        if path.name != ".env":
            os.chown(path, user, user)
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001 and "pytest" in str(parent):
            parent.chmod(parent.stat().st_mode | 0o055)


async def _ended(bench: Bench, command: Command, surrounding: Surrounding) -> Ended:
    changed = {name: value for name, value in surrounding.environment.items() if value is not None}
    environment = {
        **bench.environment(POLYB2_DATASETS=DAY_AGGS, POLYB2_GIVE_UP="5s"),
        "HOME": str(bench.folder),
        **changed,
    }
    for name, value in surrounding.environment.items():
        if value is None:
            environment.pop(name, None)
    python, who = sys.executable, dict[str, Any]()
    if surrounding.user is not None:
        python = interpreter_of(surrounding.user) or ""
        environment["PYTHONPATH"] = _packages()
        who = {"user": surrounding.user, "group": surrounding.user, "extra_groups": []}
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", f'{surrounding.shell}; exec "$@"', "sh", python, "-m", "polyb2", *command.words,
        cwd=bench.folder, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **who,
    )  # fmt: skip
    try:
        async with asyncio.timeout(ENDED_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def play_alone(command: Command, surrounding: Surrounding) -> str:
    """Play a pair with a sandbox and a folder of its own; why it was not played, or nothing."""
    if reason := unplayable(surrounding):
        return reason
    with tempfile.TemporaryDirectory(prefix="polyb2-surroundings-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        async with Sandbox() as box:
            settings = {"database_url": f"sqlite:///{folder / 'ledger.db'}", "polyb2_http_addr": ""}
            await play(Bench(box, folder, settings), command, surrounding)
    return ""
