"""A signal before the work of a command begins: never a traceback, and a run says that it was stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TERM, HUP, INT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
WHILE_LOADING = """
import os, sys
import polyb2.__main__ as program
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
sys.argv = ["polyb2", *sys.argv[1:]]
program.main()
"""
"""The program, which gets a signal at the moment when it loads a module."""


INTO_A_STALLED_READER = """
import io, os, sys, time
import polyb2.__main__ as program
class Stalled(io.RawIOBase):
    def writable(self):
        return True
    def fileno(self):
        return 1
    def write(self, data):
        if not os.path.samestat(os.fstat(1), os.stat(os.devnull)):
            os.kill(os.getpid(), {number})
            time.sleep(60)
        return len(data)
sys.stdout = io.TextIOWrapper(io.BufferedWriter(Stalled()))
sys.argv = ["polyb2", *sys.argv[1:]]
program.main()
"""
"""The program, which gets a signal when it writes to stdout, whose reader takes nothing."""


def ended(folder: Path, number: int, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return _ended(folder, WHILE_LOADING.format(module=module, number=int(number)), *words)


def _ended(folder: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True, text=True, check=False, cwd=folder, stdin=subprocess.DEVNULL,
        env={**os.environ, "DATABASE_URL": "sqlite:///ledger.db", "POLYB2_HTTP_ADDR": ""},
    )  # fmt: skip


@pytest.mark.parametrize("module", ["typer", "polyb2.config", "polyb2.engine"])
@pytest.mark.parametrize("number", [TERM, HUP, INT])
def test_a_watch_that_is_stopped_before_it_began_says_so_and_ends_with_0(
    tmp_path: Path, number: signal.Signals, module: str
) -> None:
    end = ended(tmp_path, number, module, "run", "--watch")
    assert (end.returncode, end.stdout) == (0, "")
    assert end.stderr == f"polyb2: stopped by {number.name}; nothing was under way\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["typer", "polyb2.config"])
@pytest.mark.parametrize("number", [TERM, HUP, INT])
@pytest.mark.parametrize("words", [("run",), ("sync", "--dates", "2024-01-02"), ("status",), ("status", "--watch")])
def test_any_other_command_ends_with_the_signals_code_and_without_a_traceback(
    tmp_path: Path, number: signal.Signals, module: str, words: tuple[str, ...]
) -> None:
    end = ended(tmp_path, number, module, *words)
    assert (end.returncode, end.stdout) == (128 + number, "")
    lines = end.stderr.splitlines()
    assert lines == [f"polyb2: stopped by {number.name}; nothing was under way"] * (words[0] != "status")


@pytest.mark.parametrize("number", [TERM, INT])
@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("--version",), ("status",), ("coverage", "--json")])
def test_a_reader_that_takes_nothing_does_not_keep_the_process(
    tmp_path: Path, number: signal.Signals, words: tuple[str, ...]
) -> None:
    end = _ended(tmp_path, INTO_A_STALLED_READER.format(number=int(number)), *words)
    assert (end.returncode, end.stdout, end.stderr) == (128 + number, "", "")


def test_a_program_reads_of_the_stop_as_an_event_and_quiet_is_quiet(tmp_path: Path) -> None:
    end = ended(tmp_path, TERM, "polyb2.config", "run", "--watch", "--log-format", "json")
    line = json.loads(end.stderr)
    assert (line["event"], line["signal"], line["seconds"]) == ("run.stopping", 15, 0)
    assert ended(tmp_path, TERM, "polyb2.config", "run", "--quiet").stderr == ""


def test_an_interrupt_that_the_shell_ignores_for_a_background_job_is_ignored_while_loading(tmp_path: Path) -> None:
    program = WHILE_LOADING.format(module="typer", number=int(INT))
    shell = 'trap "" INT; exec "$0" -c "$1" status'
    end = subprocess.run(
        ["sh", "-c", shell, sys.executable, program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert end.returncode == 0, end.stderr
