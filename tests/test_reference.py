"""Files for users and the code agree: ``.env.example``, the tables of settings and of exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from polyb2.cli.main import app
from polyb2.config.settings import entries
from polyb2.core.errors import AccountStoppedError, Polyb2Error, RemoteError, UsageError
from polyb2.core.exit_codes import ExitCode
from tests.reference import ROOT, TABLES, files

FILES = dict(files())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_says_what_the_code_does(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], "run python -m tests.reference"


@pytest.mark.parametrize("name", TABLES)
def test_each_table_stands_in_the_reference(name: str) -> None:
    (text,) = [text for path, text in FILES.items() if path.name == "reference.md"]
    assert TABLES[name]() in text


def test_every_setting_has_a_meaning_and_a_name_of_its_own() -> None:
    variables = [entry.variable for entry in entries()]
    names = [name for variable in variables for name in (variable.name, variable.alias) if name]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+", name) for name in names)
    assert all(variable.words.endswith(".") and "\n" not in variable.words for variable in variables)


def test_every_option_of_a_setting_is_one_of_a_command() -> None:
    options = {entry.variable.option for entry in entries() if entry.variable.option}
    from typer.main import get_command  # noqa: PLC0415 - of the library

    group = get_command(app)
    known = {name for command in group.commands.values() for option in command.params for name in option.opts}  # type: ignore[attr-defined]
    assert options <= known


def test_exit_codes_of_errors_and_help_are_those_of_the_table() -> None:
    errors = (Polyb2Error, UsageError, AccountStoppedError, RemoteError)
    assert [error.exit_code for error in errors] == [1, 2, 4, 4]
    assert all(isinstance(error.exit_code, ExitCode) for error in errors)
    epilog = app.info.epilog or ""
    assert all(f"{code.value} {code.meaning}" in epilog for code in ExitCode)
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 129, 130, 143]


def test_no_target_of_make_is_taken_for_a_file_of_its_name() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony.split() == re.findall(r"^([a-z-]+):.*##", text, re.MULTILINE)
