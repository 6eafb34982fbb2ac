"""Very many lines, as ``files``, ``verify`` and ``cleanup`` print them: cheap where nobody looks, safe everywhere."""

from __future__ import annotations

import pytest
from rich.console import Console

from polyb2.cli.manner import MANNER
from polyb2.cli.show.output import lines


def test_lines_into_a_pipe_are_escaped_and_none_is_laid_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "print", lambda *_given, **_named: pytest.fail("a line was laid out"))
    line = lines()
    line("a\x1b[31m [bold]:smile: " + "x" * 300)
    assert capsys.readouterr().out == f"a\\x1b[31m [bold]:smile: {'x' * 300}\n"


def test_quiet_keeps_lines_back_that_nobody_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MANNER, "quiet", True)
    lines(asked=False)("a")
    lines()("b")
    assert capsys.readouterr().out == "b\n"
