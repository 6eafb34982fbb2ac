"""A pair of command and surrounding for each of both: real processes; ``make faults`` plays every pair."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from tests.conftest import DAY_AGGS, Bench, key
from tests.e2e.surroundings import COMMANDS, DAY, SURROUNDINGS, Command, Surrounding, play, unplayable

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


# -- how a warning is said ---------------------------------------------------------------------------------------------

TYPO = {"POLYB2_CONCURENCY": "7"}
SAID = (
    "POLYB2_CONCURENCY in the environment is no setting of polyb2 and has no effect; the nearest is POLYB2_CONCURRENCY"
)


async def test_a_mistyped_name_is_one_line_on_stderr_beside_json(bench: Bench) -> None:
    ended = await bench.cli("status", "--json", **TYPO)
    assert (ended.code, ended.err) == (0, f"polyb2: warning: {SAID}\n")
    assert ended.json()["totals"]["files"] == 0


async def test_for_programs_it_is_an_object_like_every_other_line(bench: Bench) -> None:
    ended = await bench.cli("status", **TYPO, POLYB2_LOG_FORMAT='"json"')
    said = json.loads(ended.err)
    assert (said["level"], said["event"], said["message"]) == ("WARNING", "log.message", SAID)


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("--version",), ("status", "-q")])
async def test_it_is_not_in_the_help_nor_where_nothing_but_errors_is_wanted(
    bench: Bench, words: tuple[str, ...]
) -> None:
    assert (await bench.cli(*words, **TYPO)).err == ""


async def test_it_is_said_beside_what_is_missing_for_that_reason(bench: Bench) -> None:
    ended = await bench.cli("run", B2_BUCKET_NAME="", B2_BUCKET="mine")
    assert ended.code == 2
    first, second = ended.err.splitlines()
    assert first.endswith(
        "B2_BUCKET in the environment is no setting of polyb2 and has no effect; the nearest is B2_BUCKET_NAME"
    )
    assert second.startswith("polyb2: B2_BUCKET_NAME is not set")


async def test_keys_with_the_line_end_of_a_mounted_secret_are_accepted(bench: Bench) -> None:
    names = ("POLYGON_S3_ACCESS_KEY_ID", "POLYGON_S3_SECRET_ACCESS_KEY", "B2_KEY_ID", "B2_APPLICATION_KEY")
    given = {name: f"{bench.box.environment()[name]}\r\n" for name in names}
    bench.box.source.put(key(DAY), b"x")
    ended = await bench.cli("sync", "--dates", DAY, "--dataset", DAY_AGGS, **given)
    assert ended.code == 0, ended.err
    bench.assert_mirrored(key(DAY))


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "http://127.0.0.1:many"])
async def test_a_proxy_that_cannot_be_used_is_exit_2(bench: Bench, proxy: str) -> None:
    ended = await bench.cli("run", B2_ENDPOINT_URL="https://b2.invalid", https_proxy=proxy)
    assert ended.code == 2
    assert ended.err.startswith("polyb2: https_proxy ")
    assert len(ended.err.splitlines()) == 1


async def test_a_demo_that_may_write_nowhere_says_what_to_set(bench: Bench) -> None:
    words = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "polyb2", "demo")
    done = await asyncio.to_thread(
        subprocess.run, words, cwd=bench.folder, env=bench.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("polyb2: no folder for the demo: No usable temporary directory found")
    assert "set TMPDIR" in done.stderr
