"""A system that gives no threads is said in words; what libuv makes of that is the end of the process."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from polyb2 import threads
from polyb2.cli.loop import in_loop
from polyb2.core.errors import UsageError
from tests.conftest import Bench, key

WORDS = "raise the limit of processes (ulimit -u"


def _refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_they_are_tried_for_and_given_back() -> None:
    before = threading.active_count()
    assert threads.are_plenty()
    assert threading.active_count() == before


def test_the_want_of_them_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    with pytest.raises(UsageError, match="ulimit -u"):
        threads.are_plenty()


def test_a_few_are_enough_for_asyncio_and_not_for_libuv(monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = threading.Thread.start, list[threading.Thread]()

    def start(thread: threading.Thread) -> None:
        if len(started) == 5:
            _refuse(thread)
        started.append(thread)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert not threads.are_plenty()
    assert not any(thread.is_alive() for thread in started)


def test_wherever_a_command_finds_that_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(threading.Thread, "start", _refuse)
        await asyncio.to_thread(int)

    with pytest.raises(UsageError, match="ulimit -u"):
        in_loop(work())


def test_other_trouble_is_not_taken_for_it() -> None:
    async def work() -> None:
        raise RuntimeError("another")

    with pytest.raises(RuntimeError, match="another"):
        in_loop(work())


@pytest.mark.parametrize("command", ["run", "status"])
async def test_a_command_without_threads_is_exit_2(bench: Bench, command: str) -> None:
    """By a Python that gives none, as root is not held by ``ulimit -u``."""
    bench.box.source.put(key("2024-01-02"), b"x")
    await bench.discover()
    refusing = (
        "import threading, sys\n"
        'def refuse(_): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = refuse\n"
        "from polyb2.cli.main import main\n"
        "main(sys.argv[1:])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", refusing, command, cwd=bench.folder, env=bench.environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert (process.returncode, len(err.decode().splitlines())) == (2, 1), err.decode()
    assert WORDS in err.decode()
