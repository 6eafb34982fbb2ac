"""Failpoints do what they say to a real process, at the passing that was named, and nothing without the variable."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from polyb2 import failpoints
from polyb2.failpoints import VARIABLE

PASS_FOUR = """
from polyb2.failpoints import failpoint
for passing in range(1, 5):
    print(passing, flush=True)
    failpoint("ledger.receipt.after")
    failpoint("ledger.receipt.before")
"""


def passed(points: str | None) -> tuple[int, list[str], str]:
    """Exit code, the passings begun and stderr of a process with these failpoints."""
    given = {} if points is None else {VARIABLE: points}
    run = subprocess.run(
        [sys.executable, "-c", PASS_FOUR], env=os.environ | given, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout.split(), run.stderr


@pytest.mark.parametrize(
    ("points", "code", "passings"),
    [
        (None, 0, 4),
        ("", 0, 4),
        ("ledger.receipt.after=kill", -signal.SIGKILL, 1),
        ("ledger.receipt.after=kill@3", -signal.SIGKILL, 3),
        ("ledger.receipt.after=kill@5", 0, 4),
        ("ledger.receipt.after=term@2", -signal.SIGTERM, 2),
        ("ledger.receipt=kill", 0, 4),
        ("target.put.before=kill,ledger.receipt.before=term@2", -signal.SIGTERM, 2),
        ("ledger.receipt.before=term@3,ledger.receipt.after=kill@2", -signal.SIGKILL, 2),
    ],
)
def test_a_process_dies_at_the_named_passing_of_the_point(points: str | None, code: int, passings: int) -> None:
    assert passed(points) == (code, [str(passing) for passing in range(1, passings + 1)], "")


def test_an_unexpected_error_comes_up_where_it_is_asked_for() -> None:
    code, passings, errors = passed("ledger.receipt.after=raise@2")
    assert (code, passings) == (1, ["1", "2"])
    assert errors.strip().endswith("polyb2.failpoints.FailpointError")


def test_a_stopped_process_goes_on_where_it_stood() -> None:
    environment = os.environ | {VARIABLE: "ledger.receipt.after=stop@2"}
    with subprocess.Popen(
        [sys.executable, "-c", PASS_FOUR], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == signal.SIGSTOP
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate()
    assert (process.returncode, out.split()) == (0, ["1", "2", "3", "4"])


@pytest.mark.parametrize(
    "points", ["ledger.receipt.after=dance", "ledger.receipt.after", "ledger.receipt.after=kill@x"]
)
def test_a_mistake_in_the_variable_is_no_silent_nothing(points: str) -> None:
    code, passings, errors = passed(points)
    assert (code, passings) == (1, [])
    assert re.search(r"^(KeyError|ValueError): ", errors, re.MULTILINE)


def test_the_example_of_the_documentation_works() -> None:
    example = re.search(rf'{VARIABLE}="([^"]+)"', failpoints.__doc__ or "")
    assert example is not None
    code, passings, _ = passed(example[1])
    assert (code, passings) == (-signal.SIGKILL, ["1", "2", "3"])
