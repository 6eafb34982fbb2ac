"""The ends of the process: a terminal that is asked, a pipe that closes, a disk that is full, a signal at any time."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polyb2.sandbox import Answer, Fault, Stall
from tests.conftest import DAY_AGGS, Bench, key, until

SMALL = key("2024-01-02")
CHOSEN = ("--dates", "2024-01-02", "--dataset", DAY_AGGS)


class Terminal:
    """A process of polyb2 on a terminal of its own."""

    def __init__(self, bench: Bench, *words: str, **extra: str) -> None:
        self._main, theirs = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "polyb2", *words],
            cwd=bench.folder,
            env=bench.environment(**{"TERM": "xterm", "COLUMNS": "120", "LINES": "40", **extra}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def _read(self) -> str:
        try:
            return os.read(self._main, 65536).decode()
        except OSError:
            return ""

    async def see(self, words: str) -> None:
        while words not in self.shown:
            piece = await asyncio.to_thread(self._read)
            assert piece, f"the process ended without showing {words!r}: {self.shown}"
            self.shown += piece

    def type(self, words: str) -> None:
        os.write(self._main, words.encode())

    async def end(self) -> int:
        while piece := await asyncio.to_thread(self._read):
            self.shown += piece
        os.close(self._main)
        return await asyncio.to_thread(self.process.wait)


@pytest.mark.parametrize("command", ["discover", "sync"])
@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("no\n", 2), ("\n", 2), ("\x04", 2)])
async def test_a_large_plan_is_asked_for(bench: Bench, command: str, answer: str, code: int) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    terminal = Terminal(bench, command, *CHOSEN, POLYB2_MAX_PLAN_BYTES="999")
    await terminal.see("[y/N]: ")
    terminal.type(answer)
    assert await terminal.end() == code, terminal.shown
    assert ("1 files queued" in terminal.shown) is (code == 0)
    assert ("nothing was queued" in terminal.shown) is (code == 2)
    assert bench.box.target.count("put") == (1 if (command, code) == ("sync", 0) else 0)


async def test_a_question_can_be_interrupted(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    terminal = Terminal(bench, "sync", *CHOSEN, POLYB2_MAX_PLAN_BYTES="999")
    await terminal.see("[y/N]: ")
    terminal.process.send_signal(signal.SIGINT)
    assert await terminal.end() == 130, terminal.shown
    assert "Traceback" not in terminal.shown


@pytest.mark.parametrize("command", ["discover", "plan", "verify", "cleanup"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_any_command_ends_on_a_signal(bench: Bench, command: str, number: signal.Signals, code: int) -> None:
    bench.box.source.put(SMALL, b"x")
    for store in (bench.box.source, bench.box.target):
        store.inject(Fault("*", Stall(), times=0))
    process = await bench.start(command, *(() if command == "cleanup" else CHOSEN))
    await until(lambda: bench.box.source.in_flight + bench.box.target.in_flight > 0)
    process.send_signal(number)
    _out, err = await process.communicate()
    assert (process.returncode, err) == (code, b"")


def shell(bench: Bench, line: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a line in bash, in which ``polyb2`` is the one under test."""
    script = f"polyb2() {{ '{sys.executable}' -m polyb2 \"$@\"; }}\n{line}"
    return subprocess.run(
        ["bash", "-c", script],
        cwd=bench.folder,
        env=bench.environment(**extra),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("words", ["files", "files --json"])
async def test_a_reader_that_has_enough_is_no_error(bench: Bench, words: str) -> None:
    for number in range(1, 29):
        bench.box.source.put(key(f"2024-02-{number:02}"), b"x")
        bench.box.source.put(key(f"2023-02-{number:02}"), b"x")
    await bench.discover()
    ended = await asyncio.to_thread(shell, bench, f"polyb2 {words} | head -1; echo ${{PIPESTATUS[0]}}")
    assert (ended.stdout.splitlines()[-1], ended.stderr) == ("0", "")
    ended = await asyncio.to_thread(shell, bench, f"polyb2 {words} | true; echo ${{PIPESTATUS[0]}}")
    assert (ended.stdout, ended.stderr) == ("0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_output_that_cannot_be_written_is_told(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    ended = await asyncio.to_thread(shell, bench, "polyb2 status --json > /dev/full")
    assert ended.returncode == 1
    assert ended.stderr.startswith("polyb2: ")
    assert "No space left on device" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


async def test_a_closed_output_is_nobodys(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    ended = await asyncio.to_thread(shell, bench, "polyb2 status >&-; echo $? >&2")
    assert ended.stderr == "0\n"
    ended = await asyncio.to_thread(shell, bench, "polyb2 files --status nonsense 2>&-; echo $?")
    assert ended.stdout == "2\n"


@pytest.mark.parametrize("debug", [True, False])
async def test_a_traceback_is_shown_with_debug_only(bench: Bench, debug: bool) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    extra = {"POLYB2_FAILPOINTS": "source.get.before=raise", "LOG_LEVEL": "DEBUG"}
    ended = await bench.cli(*(["--debug"] if debug else []), "run", **extra)
    assert ended.code == 0, ended.err
    assert "unexpected error in the transfer" in ended.err
    assert "FailpointError" in ended.err
    assert ("Traceback" in ended.err) is debug
    ended = await bench.cli("run", *(["--debug"] if debug else []), POLYB2_FAILPOINTS="ledger.register.before=raise")
    assert ended.code == 1
    assert ("Traceback" in ended.err) is debug


async def test_plan_makes_and_binds_no_ledger(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    assert (await bench.cli("plan", *CHOSEN)).code == 0
    assert (await bench.cli("cleanup", "--dry-run")).code == 0
    assert (await bench.cli("verify")).code == 0
    assert list(bench.folder.iterdir()) == []
    await bench.mirror_all()
    assert (await bench.cli("plan", *CHOSEN, B2_BUCKET_NAME="another")).code == 2


async def test_staying_up_and_ending_exclude_each_other(bench: Bench) -> None:
    ended = await bench.cli("run", "--watch", "--limit", "3")
    assert (ended.code, "choose one" in ended.err) == (2, True)


async def test_a_secret_in_a_traceback_is_scrubbed(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.target.inject(Fault("put", Answer(500, "InternalError"), times=0))
    ended = await bench.cli(
        "--debug",
        "sync",
        *CHOSEN,
        LOG_LEVEL="DEBUG",
        POLYB2_PART_TRIES="1",
        POLYB2_FAILPOINTS="target.put.before=raise",
    )
    assert "Traceback" in ended.err
    assert "X-Amz-Signature=" not in ended.err.replace("X-Amz-Signature=...", "")


@pytest.mark.parametrize("columns", ["40", "80", "200"])
@pytest.mark.parametrize(
    ("words", "figure"),
    [
        (("coverage", "--dates", "2024-01-02"), "M mirrored 1"),
        (("plan", *CHOSEN), "0 B\r\n"),
        (("datasets",), "106-172 GB"),
        (("files", SMALL), "proven by etag"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_a_narrow_terminal_cuts_no_figure_off(
    bench: Bench, words: tuple[str, ...], figure: str, columns: str
) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    await bench.mirror_all()
    terminal = Terminal(bench, *words, COLUMNS=columns)
    assert await terminal.end() == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown)
    assert figure in plain
    assert plain != terminal.shown  # a terminal has colours
