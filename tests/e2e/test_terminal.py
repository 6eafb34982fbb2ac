"""The ends of the process: a terminal that is asked, a pipe that closes, a disk that is full, a signal at any time."""

from __future__ import annotations

import asyncio
import json
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


async def _one_of_two_will_fail(bench: Bench) -> None:
    outside = key("2024-01-02", "us_options_opra/day_aggs_v1")
    bench.box.source.put(outside, b"x")
    bench.box.source.put(key("2024-01-03"), b"x")
    bench.box.source.inject(Fault("get", Answer(403, "AccessDenied"), key=outside, times=0))
    await bench.discover()


@pytest.mark.parametrize(
    "where", ["2>&1 >/dev/null | true", "2>/dev/full >/dev/null | true"], ids=["unread", "no room"]
)
async def test_a_log_that_cannot_be_written_stops_no_run(bench: Bench, where: str) -> None:
    await _one_of_two_will_fail(bench)
    ended = await asyncio.to_thread(shell, bench, f"polyb2 run {where}; echo ${{PIPESTATUS[0]}}", LOG_LEVEL="DEBUG")
    assert (ended.stdout, ended.stderr) == ("3\n", "")
    statuses = json.loads((await bench.cli("status", "--json")).out)["by_status"]
    assert (statuses["completed"]["files"], statuses["not_entitled"]["files"]) == (1, 1)


@pytest.mark.parametrize(
    "words",
    ["run", "verify", "coverage --require complete --dates 2024-01-02", "doctor", f"files {key('2024-01-03')} unknown"],
)
async def test_a_reader_that_goes_away_changes_no_exit_code(bench: Bench, words: str) -> None:
    await _one_of_two_will_fail(bench)
    await bench.box.target.store(key("2024-01-09"), b"of another")
    bench.box.target.inject(Fault("upload_part", Answer(403, "AccessDenied"), times=0))
    ended = await asyncio.to_thread(shell, bench, f"polyb2 {words} 2>/dev/null | true; echo ${{PIPESTATUS[0]}}")
    assert ended.stdout == ("4\n" if words == "doctor" else "3\n")


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
        (("files", SMALL), "by etag\r\n"),
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


# -- the manner of speaking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_quiet_run_says_nothing_and_ends_as_ever(bench: Bench, place: str) -> None:
    bench.box.source.put(SMALL, b"x")
    words = ["sync", *CHOSEN]
    words = ["--quiet", *words] if place == "before" else [*words, "-q"]
    ended = await bench.cli(*words, LOG_LEVEL="DEBUG")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    bench.assert_mirrored(SMALL)
    assert (await bench.cli("status", "--quiet")).out.count("completed") == 1


async def test_a_quiet_run_tells_what_failed_and_what_to_do(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.target.inject(Fault("put", Answer(400, "InvalidRequest"), times=0))
    ended = await bench.cli("-q", "sync", *CHOSEN)
    assert (ended.code, ended.out) == (3, "")
    assert [SMALL in ended.err, "polyb2 files --status permanent_failure" in ended.err] == [True, True]
    bench.box.target.clear_faults()
    await bench.cli("retry")
    assert (await bench.cli("run")).code == 0
    await bench.box.target.store(SMALL, b"another")
    ended = await bench.cli("verify", "--quiet")
    assert (ended.code, ended.out, ended.err) == (
        3,
        "",
        "polyb2: 1 differences: polyb2 verify without --quiet names them\n",
    )


async def test_the_log_of_a_run_for_programs(bench: Bench) -> None:
    other = key("2024-01-03")
    bench.box.source.put(SMALL, b"x" * 1000)
    bench.box.source.put(other, b"y")
    bench.box.target.inject(Fault("put", Answer(405, "MethodNotAllowed"), key=f"*{other}", times=0))
    await bench.discover()
    ended = await bench.cli("run", "--log-format", "json")
    lines = {line["event"]: line for line in map(json.loads, ended.err.splitlines())}
    assert ended.code == 3
    assert set(lines) == {"run.started", "file.completed", "file.parked", "run.ended"}
    done, parked, end = lines["file.completed"], lines["file.parked"], lines["run.ended"]
    assert (done["key"], done["dataset"], done["bytes"], done["attempt"]) == (SMALL, DAY_AGGS, 1000, 1)
    assert (parked["key"], parked["reason"], parked["side"]) == (other, "unsupported", "target")
    assert (end["completed"], end["unfinished"], end["bytes"]) == (1, 1, 1000)
    assert "secret" not in ended.err


async def test_a_wrong_command_for_programs(bench: Bench) -> None:
    ended = await bench.cli("--log-format=json", "run", "--max-bandwidth", "8-18=5M")
    line = json.loads(ended.err)
    assert (ended.code, line["event"], line["exit_code"]) == (2, "command.failed", 2)


# -- the display -------------------------------------------------------------------------------------------------------


async def test_the_display_of_a_run(bench: Bench) -> None:
    for day in range(1, 10):
        bench.box.source.put(key(f"2024-01-{day:02}"), b"x" * 50_000)
    words = ("sync", "--historical", "--dataset", DAY_AGGS, "--max-bandwidth", "150k", "--concurrency", "3")
    terminal = Terminal(bench, *words, COLUMNS="80")
    await terminal.see("limit 150.0 kB/s")
    await terminal.see("of 450.0 kB")
    assert await terminal.end() == 0
    assert "9 files completed, 450.0 kB sent in" in terminal.shown
    drawn = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r") for line in terminal.shown.split("\n")]
    assert max(map(len, (part for line in drawn for part in line.split("\r")))) <= 80


@pytest.mark.parametrize(
    "extra", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=["NO_COLOR", "TERM=dumb", "a terminal with colours"]
)
async def test_colours_are_for_terminals_that_want_them(bench: Bench, extra: dict[str, str]) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.mirror_all()
    terminal = Terminal(bench, "status", **extra)
    assert await terminal.end() == 0
    assert DAY_AGGS in terminal.shown
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.shown)) is (not extra)
    assert "\x1b" not in (await bench.cli("status")).out


async def test_status_refreshes_in_place_and_ends_quietly(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.mirror_all()
    terminal = Terminal(bench, "status", "--watch")
    await terminal.see("completed")
    assert "\x1b[?1049h" in terminal.shown  # the screen of its own
    terminal.process.send_signal(signal.SIGINT)
    assert await terminal.end() == 130
    assert terminal.shown.count("\x1b[?1049l") == 1
    assert "Traceback" not in terminal.shown


async def test_a_watched_status_in_a_pipe_has_no_control_characters(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.mirror_all()
    ended = await asyncio.to_thread(shell, bench, "polyb2 status --watch | head -6")
    assert ended.stdout.count(DAY_AGGS) == 2
    assert "\x1b" not in ended.stdout


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("polyb2 stat", ["status"]),
        ("polyb2 status --wa", ["--watch"]),
        ("polyb2 run --qu", ["--quiet"]),
        ("polyb2 run --log-format j", ["json"]),
    ],
)
async def test_bash_completes(bench: Bench, typed: str, completed: list[str]) -> None:
    words = typed.split()
    line = (
        f"unset -f polyb2; PATH={Path(sys.executable).parent}:$PATH; source <(polyb2 --show-completion bash); "
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _polyb2_completion polyb2; echo ${{COMPREPLY[@]}}"
    )
    ended = await asyncio.to_thread(shell, bench, line)
    assert ended.stdout.split() == completed, ended.stderr
