"""The garbage collector is put off while the program loads, and is on when a command works."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from polyb2.cli.loop import in_loop

PROGRAM = """
import gc, sys
from polyb2.__main__ import main
sys.argv = ["polyb2", "--version"]
try:
    main()
finally:
    print("on" if gc.isenabled() else "off")
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


def test_nothing_is_looked_through_while_the_program_loads() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("off\n"), done.stderr
