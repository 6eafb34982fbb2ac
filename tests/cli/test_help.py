"""The help: whole sentences, and true of the command that it stands under."""

from __future__ import annotations

import pytest
from typer.main import get_command

from polyb2.cli import app as app_module
from polyb2.cli.main import app, main


def helped(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_list_of_commands_is_cut_nowhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = helped(capsys)
    for command in app.registered_commands:
        assert command.callback is not None
        first = " ".join((command.help or command.callback.__doc__ or "").split()).split(". ")[0].rstrip(".")
        assert first in text
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize("words", [[], ["--quiet"], ["--log-format", "json"]])
def test_without_a_command_the_help_stands(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert " ".join(capsys.readouterr().out.split()) == helped(capsys)


def test_an_option_names_its_value_and_not_the_type_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert "<" not in helped(capsys, command.callback.__name__)


@pytest.mark.parametrize("command", ["discover", "sync", "plan"])
def test_what_lists_takes_the_last_days_by_default(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "The last days, by US Eastern time (the default)." in helped(capsys, command)


@pytest.mark.parametrize("command", ["files", "retry", "unqueue", "verify", "coverage"])
def test_what_filters_takes_everything_by_default(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = helped(capsys, command)
    assert "(the default)" not in text
    assert "Without any of these: all dates." in text


@pytest.mark.parametrize(
    "order", [app_module._ORDER[1:], (*app_module._ORDER, "new")], ids=["not named", "not imported"]
)
def test_a_command_that_is_only_declared_or_only_named_is_a_mistake_in_words(
    monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]
) -> None:
    monkeypatch.setattr(app_module, "_ORDER", order)
    with pytest.raises(AssertionError, match=r"cli/main\.py\?\): (discover|new)$"):
        get_command(app)
