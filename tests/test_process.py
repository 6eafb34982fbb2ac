"""The standard streams: closed ones lead nowhere and are nobody else's, and so does a terminal that went away."""

from __future__ import annotations

import gc
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from polyb2.process import YOUNG_OBJECTS, outliving_terminal, spared_collector

PROBE = """
import os, sys
from polyb2.process import put_right

put_right()
print("to nobody")
print("to nobody", file=sys.stderr)
with open(sys.argv[1], "w") as found:
    print(found.fileno(), [os.fstat(number).st_rdev == os.stat(os.devnull).st_rdev for number in range(3)], file=found)
"""


@pytest.mark.parametrize(
    ("closing", "shut"),
    [("0<&-", [0]), ("1>&-", [1]), ("2>&-", [2]), ("0<&- 1>&-", [0, 1]), ("0<&- 1>&- 2>&-", [0, 1, 2])],
)
def test_a_closed_descriptor_is_never_given_to_the_next_file(tmp_path: Path, closing: str, shut: list[int]) -> None:
    told = tmp_path / "told"
    words = ["sh", "-c", f'exec {closing}; exec "$@"', "sh", sys.executable, "-c", PROBE, str(told)]
    done = subprocess.run(words, stdin=subprocess.PIPE, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    number, _, nowhere = told.read_text().partition(" ")
    assert int(number) > 2
    assert nowhere.strip() == str([item in shut for item in range(3)])


def test_what_is_written_to_a_terminal_that_went_away_is_for_nobody() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        stream = outliving_terminal(terminal)
        assert stream.isatty()
        stream.write("seen\n")
        assert os.read(ours, 100) == b"seen\r\n"
        os.close(ours)
        for _ in range(3):
            stream.write("for nobody\n")
            stream.flush()
        assert os.fstat(theirs).st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116 - beside fstat


def test_the_collector_of_a_run_looks_at_what_comes_and_goes() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with spared_collector():
        assert gc.get_threshold()[0] == YOUNG_OBJECTS
        assert gc.get_freeze_count() > frozen
        assert gc.isenabled()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
    gc.freeze()


def test_a_stream_that_is_no_terminal_is_left_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        assert outliving_terminal(file) is file
