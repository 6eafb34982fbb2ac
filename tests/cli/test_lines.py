"""Very many lines, as ``files``, ``verify`` and ``cleanup`` print them: cheap where nobody looks, safe everywhere."""

from __future__ import annotations

import pytest
from rich.console import Console

from polyb2.cli.logs import OUTPUT
from polyb2.cli.output.console import line_printer


def test_lines_into_a_pipe_are_escaped_and_none_is_laid_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "print", lambda *_given, **_named: pytest.fail("a line was laid out"))
    line = line_printer()
    line("a\x1b[31m [bold]:smile: " + "x" * 300)
    assert capsys.readouterr().out == f"a\\x1b[31m [bold]:smile: {'x' * 300}\n"


def test_quiet_keeps_lines_back_that_nobody_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OUTPUT, "quiet", True)
    line_printer(asked=False)("a")
    line_printer()("b")
    assert capsys.readouterr().out == "b\n"
