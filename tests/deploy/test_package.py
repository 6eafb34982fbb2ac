"""What a release promises; ``tools/try-package.sh`` builds and installs one."""

from __future__ import annotations

import tomllib

import pytest

import polyb2
from tests.conftest import Bench
from tests.deploy.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


async def test_the_version_is_in_one_place(bench: Bench) -> None:
    assert (await bench.cli("--version")).out == f"polyb2 {polyb2.__version__}\n"
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/polyb2/__init__.py"


@pytest.mark.parametrize(("typed", "offered"), [("polyb2 dis", "discover"), ("polyb2 run --conc", "--concurrency")])
async def test_the_shell_completes_commands_and_options(bench: Bench, typed: str, offered: str) -> None:
    """As the function that --install-completion puts into bash asks for it."""
    extra = {
        "_POLYB2_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    ended = await bench.cli(**extra)
    assert (ended.code, ended.out.split()) == (0, [offered])
