"""One way out: no request of either side can be made beside the guards."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import polyb2

SOURCES = Path(polyb2.__file__).parent
REMOTE = SOURCES / "remote"
GUARDED = {"once", "call", "believable", "_asked"}
"""What takes a control call and sends it through the guard."""


@pytest.mark.parametrize(
    ("words", "only_in"),
    [
        (r"\.session\(|_session\(fresh\)", {"remote/route.py", "remote/network.py"}),
        (r"\bIncoming\(", {"remote/route.py"}),
        (r"\bStallWatch\(", {"remote/traffic.py"}),
        (r"\.body\(", {"remote/route.py"}),
        (r"\._request\(", {"remote/guards.py"}),
        (r"\baiohttp\.ClientSession\(", {"remote/clients.py", "notify/ping.py"}),
        (r"\.client\(", {"remote/clients.py"}),
    ],
)
def test_what_opens_a_request_is_used_in_one_place(words: str, only_in: set[str]) -> None:
    """A side's network is looked at by ``doctor`` before there are keys to sign with: a HEAD with a time-out of its own."""
    opened = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if re.search(words, re.sub(r"class .*:", "", path.read_text(encoding="utf-8")))
        and path.relative_to(SOURCES).parts[0] != "sandbox"
    }
    assert opened
    assert opened <= only_in


@pytest.mark.parametrize("module", ["source.py", "target.py"])
def test_every_control_call_goes_through_the_guard(module: str) -> None:
    tree = ast.parse((REMOTE / module).read_text(encoding="utf-8"))
    guarded = [use for call in calls_of(tree, GUARDED) for argument in call.args for use in uses_of_client(argument)]
    asked = [use for use in uses_of_client(tree) if isinstance(use.ctx, ast.Load)]
    assert len(asked) > 1
    assert {use.lineno for use in asked} == {use.lineno for use in guarded}


def calls_of(tree: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in names:
                yield node


def uses_of_client(tree: ast.AST) -> list[ast.Attribute]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "_client"]
