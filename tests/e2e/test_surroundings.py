"""A pair of command and surrounding for each of both: real processes; ``make faults`` plays every pair."""

from __future__ import annotations

import pytest

from tests.conftest import Bench
from tests.e2e.surroundings import COMMANDS, SURROUNDINGS, Command, Surrounding, play, unplayable

TELLING = {
    "AWS's variables and files in a mess": "sync",
    "proxies that lead nowhere": "demo",
    "a SOCKS proxy for other hosts": "doctor",
    "a user without a name": "run",
    "the working folder is gone": "sync",
    "the ledger's folder is read-only": "discover",
    "values with quotes and line ends": "discover",
    "all three are closed": "sync",
    "stdout is a full disk": "verify",
    "stderr is a full disk": "run",
    "64 open files": "run",
    "signals ignored from the start": "run",
    "no CA bundle where SSL_CERT_FILE says": "run",
    "20 columns": "plan",
}
"""The command that a surrounding is the hardest for."""
LIGHT = [command for command in COMMANDS if command.words[0] not in {"demo", "doctor", "sync", "verify", "plan"}]


def _pairs() -> list[tuple[Command, Surrounding]]:
    """Each surrounding once, and each command at least once."""
    turns = iter(LIGHT * len(SURROUNDINGS))
    found = []
    for surrounding in SURROUNDINGS:
        name = TELLING.get(surrounding.name)
        command = next(command for command in COMMANDS if command.words[0] == name) if name else next(turns)
        found.append((command, surrounding))
    return found


@pytest.mark.parametrize(
    ("command", "surrounding"), _pairs(), ids=[f"{one.name}, {other.name}" for one, other in _pairs()]
)
async def test_a_command_ends_as_it_does_anywhere_or_says_in_words_why_not(
    bench: Bench, command: Command, surrounding: Surrounding
) -> None:
    if reason := unplayable(surrounding):
        pytest.skip(reason)
    await play(bench, command, surrounding)


def test_each_command_is_among_them() -> None:
    assert {command for command, _ in _pairs()} == set(COMMANDS)


def test_every_command_of_the_program_is_in_the_table() -> None:
    from polyb2.cli.main import app  # noqa: PLC0415 - typer's own registry

    registered = {str(item.name or getattr(item.callback, "__name__", "")) for item in app.registered_commands}
    assert registered <= {command.words[0] for command in COMMANDS}
