"""The garbage collector is put off until a command works; how a process ends, of itself and by a signal."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyb2 import signals
from polyb2.cli.loop import in_loop

PROGRAM = """
import atexit, gc, sys
import polyb2.__main__ as program
sys.argv = ["polyb2", *sys.argv[1:]]
atexit.register(print, "taken apart")
leave = program.os._exit
def ending(code):
    sys.stderr.write("on" if gc.isenabled() else "off")
    sys.stderr.flush()
    leave(code)
program.os._exit = ending
program.main()
"""


@pytest.fixture
def _off() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


async def is_on() -> bool:
    return gc.isenabled()


@pytest.mark.usefixtures("_off")
def test_a_command_works_with_the_collector_on_and_what_was_loaded_put_aside() -> None:
    frozen = gc.get_freeze_count()
    assert in_loop(is_on())
    assert gc.get_freeze_count() > frozen


def test_a_collector_that_was_never_off_is_left_as_it_is() -> None:
    frozen = gc.get_freeze_count()
    assert in_loop(is_on())
    assert gc.get_freeze_count() == frozen


def run_program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)


def test_nothing_is_looked_through_while_the_program_loads() -> None:
    assert run_program("--version").stderr == "off"


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["--help"], 0), (["retry"], 2)])
def test_the_process_ends_with_its_output_and_its_code_and_without_taking_itself_apart(
    words: list[str], code: int
) -> None:
    done = run_program(*words)
    assert done.returncode == code, done.stderr
    assert bool(done.stdout) == (code == 0)
    assert "taken apart" not in done.stdout


def test_no_plugin_of_pydantic_sees_the_keys(tmp_path: Path) -> None:
    package = tmp_path / "curious-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: curious\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[pydantic]\ncurious = curious:seen\n")
    (tmp_path / "curious.py").write_text("import os; os._exit(9)\n")
    words = [sys.executable, "-m", "polyb2", "status"]
    given = {"DATABASE_URL": f"sqlite:///{tmp_path / 'polyb2.db'}", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


async def closing_waits_for_a_wake_up() -> None:
    """Work that is told to end in the very callback that its end waits for."""
    closed = asyncio.Event()

    def close() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        closed.set()

    asyncio.get_running_loop().call_soon(close)
    try:
        await asyncio.Event().wait()
    finally:
        await closed.wait()


def test_a_second_signal_ends_a_wait_that_holds_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "ECHO_S", 0.0)

    async def writing_to_a_reader_that_takes_nothing() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it goes on")

    with pytest.raises(signals.Stopped):
        in_loop(writing_to_a_reader_that_takes_nothing())


def test_a_signal_does_not_take_the_wake_up_with_it_that_the_end_waits_for() -> None:
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        with pytest.raises(SystemExit) as end:
            in_loop(closing_waits_for_a_wake_up())
        assert end.value.code == 143
    finally:
        signal.signal(signal.SIGTERM, before)
