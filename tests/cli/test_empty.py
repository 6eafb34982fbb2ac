"""An option that is given empty was given: it is refused by its name, and never taken for one that was left out."""

from __future__ import annotations

import pytest
from typer.main import get_command

from polyb2.cli.main import app, main

OPTIONS = [
    (name, option.opts[0])
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
    for option in command.params
    if option.param_type_name == "option" and not option.is_flag
]


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[" ".join(words) for words in OPTIONS])
def test_an_empty_option_is_refused(capsys: pytest.CaptureFixture[str], command: str, option: str) -> None:
    mode = ["--historical"] * (option in {"--start-date", "--end-date"})
    with pytest.raises(SystemExit) as end:
        main([command, *["copy"] * (command == "ledger"), *mode, option, ""])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"polyb2: {option}")
