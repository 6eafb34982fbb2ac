"""Private attributes of libraries that polyb2 uses: each with its reason, and only in a pinned minor version."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/polyb2"
USED = {
    (
        "ledger/sqlite/store.py",
        "_execute",
    ): "aiosqlite's public calls are one statement each; its thread takes any function",
    ("ledger/sqlite/store.py", "_conn"): "that function is handed the connection",
    (
        "ledger/sqlite/store.py",
        "_thread",
    ): "a loop must not end before the thread that reports to it, and it has no event",
    (
        "remote/connectors.py",
        "_factory",
    ): "aiohttp has no limit of interim answers; the parser's is set where it is made",
    ("remote/sessions.py", "_register_default_handlers"): "boto3's own transfers are neither used nor loaded",
    ("remote/isolated.py", "_components"): "botocore's session has no public way to leave out where it looks around",
    ("remote/isolated.py", "_internal_components"): "the same, of its monitor",
    ("remote/parsing.py", "_parse_shape"): "botocore's parser takes what an entry lacks for absent only here",
    ("remote/parsing.py", "_handle_structure"): "the same, of a structure",
}
OURS = {
    ("remote/guard.py", "_fence"),
    ("remote/bucket.py", "_route"),
    ("core/integrity.py", "_decoder"),
    ("ledger/ledger.py", "_store"),
}
"""Attributes of an object of the same class, or of the class that a function is made a method of."""
PINNED = ("aiohttp", "aiosqlite")


def uses() -> Iterator[tuple[str, str]]:
    """Module and name of each private attribute of something else than ``self``, ``cls`` or ``super()``."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or not re.match(r"_[a-z]", node.attr):
                continue
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            parents = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
            if not own and not parents:
                yield str(path.relative_to(SOURCE)), node.attr


def test_each_has_its_reason_here() -> None:
    public = {
        "_replace",
        "_exit",
        "_asdict",
        "_value_",
    }  # of namedtuples, os and enum: documented, whatever they are called
    found = {use for use in uses() if use[1] not in public}
    assert found - OURS - USED.keys() == set()
    gone = [(module, name) for module, name in USED if name not in (SOURCE / module).read_text(encoding="utf-8")]
    assert gone == []


@pytest.mark.parametrize("library", PINNED)
def test_the_minor_version_is_pinned(library: str) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pin = re.search(rf'"{library}>=(\d+)\.(\d+)[^,]*,<(\d+)\.(\d+)"', project)
    assert pin, f"{library} is not pinned to a minor version"
    major, minor, major_before, minor_before = map(int, pin.groups())
    assert (major_before, minor_before) == (major, minor + 1)
