"""One way out: no request of either side can bypass the guards."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import polyb2

SOURCES = Path(polyb2.__file__).parent
REMOTE = SOURCES / "remote"


@pytest.mark.parametrize(
    ("words", "only_in"),
    [
        (r"\.session\(|_session\(fresh\)", {"remote/route.py"}),
        (r"\bIncoming\(", {"remote/route.py"}),
        (r"\bStallWatch\(", {"remote/traffic.py"}),
        (r"\.body\(", {"remote/route.py"}),
        (r"\._request\(", {"remote/guard.py"}),
        (r"\baiohttp\.ClientSession\(", {"remote/sessions.py"}),
        (r"\.client\(", {"remote/sessions.py"}),
    ],
)
def test_what_opens_a_request_is_used_in_one_place(words: str, only_in: set[str]) -> None:
    opened = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if re.search(words, re.sub(r"class .*:", "", path.read_text(encoding="utf-8")))
        and path.relative_to(SOURCES).parts[0] != "sandbox"
    }
    assert opened == only_in


def test_every_control_call_is_validated_and_goes_through_the_guard() -> None:
    """Nothing but ``Bucket._ask`` uses the client, and nothing but the guard is handed that."""
    uses = {path.name: uses_of(path, "_client") for path in REMOTE.glob("*.py")}
    assert {name for name, found in uses.items() if found} == {"bucket.py"}
    tree = ast.parse((REMOTE / "bucket.py").read_text(encoding="utf-8"))
    methods = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    asking = [
        name for name, method in methods.items() if any(is_attribute(node, "_client") for node in ast.walk(method))
    ]
    assert asking == ["_ask"]
    guarded = [
        node
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in {"once", "call"}
        if is_attribute(call.func.value, "guard")
        for argument in call.args
        for node in ast.walk(argument)
        if is_attribute(node, "_ask")
    ]
    assert len(guarded) == len(uses_of(REMOTE / "bucket.py", "_ask"))


def uses_of(path: Path, name: str) -> list[ast.AST]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if is_attribute(node, name) and isinstance(node.ctx, ast.Load)]  # type: ignore[attr-defined]


def is_attribute(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name
