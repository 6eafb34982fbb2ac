"""What no part of the program expected, in words at the end."""

from __future__ import annotations

import pytest

from polyb2.cli.main import main


def test_a_process_that_may_have_no_more_memory_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(**_overrides: object) -> None:
        raise MemoryError

    monkeypatch.setattr("polyb2.config.load_settings", without)
    with pytest.raises(SystemExit) as end:
        main(["status"])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith(
        "polyb2: this process may have no more memory; raise its limit (ulimit -v"
    )
