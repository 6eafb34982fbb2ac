"""What a reader is told to install: by version and hash, or from the checkout; never a name that anybody may take."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import ROOT

TOOLS = {"pip-audit", "uv"}
"""Programs of the index by their own names, run beside polyb2 and not within it."""
_INSTALL = re.compile(r"\bpip[\"']?\s+(?:-\S+\s+)*(?:install|wheel)\b([^\n`|&;)]*)")


def _texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    found = [ROOT / name for name in listed] or [path for path in ROOT.rglob("*") if ".venv" not in path.parts]
    kinds = {".md", ".py", ".sh", ".yml", ".yaml", ".service", ".example", ".toml", ""}
    kept = [path for path in found if path.suffix in kinds and path.is_file() and "requirements" not in path.parts]
    return [path for path in kept if path.name != "CHANGELOG.md" and path != Path(__file__)]


def _advice() -> list[tuple[str, str]]:
    """Every line that installs something: where, and what follows the verb, its continuation lines joined."""
    found = []
    for path in _texts():
        text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
        found += [(str(path.relative_to(ROOT)), words.strip()) for words in _INSTALL.findall(text)]
    return found


@pytest.mark.parametrize(("where", "words"), _advice())
def test_every_line_that_installs_names_hashes_or_this_checkout(where: str, words: str) -> None:
    if not words or words in TOOLS:
        return
    assert "--no-deps" in words
    assert "--require-hashes" in words or "--no-index" in words or "--no-build-isolation" in words or ".whl" in words


def test_no_extra_of_ours_is_asked_of_an_index() -> None:
    assert len(_advice()) > 8
    for path in _texts():
        assert not re.search(r"pip install[^\n]*polyb2\[", path.read_text(encoding="utf-8", errors="replace")), path


def test_the_locks_that_are_named_are_there() -> None:
    for path in _texts():
        for name in re.findall(r"requirements/(\w+\.(?:txt|in))", path.read_text(encoding="utf-8", errors="replace")):
            assert (ROOT / "requirements" / name).is_file(), f"{path}: {name}"
