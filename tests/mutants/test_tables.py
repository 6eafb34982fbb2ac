"""The tables of mutants still fit the code: no run of them, which `make mutants` does."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.mutants.mutant import PACKAGE, TESTS, Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_finds_its_check_and_its_tests(mutant: Mutant) -> None:
    for edit in mutant.edits:
        changed = edit.applied(PACKAGE)
        if edit.file.endswith(".py"):
            ast.parse(changed)
    assert mutant.killed_by, "no test is named"
    for test in mutant.killed_by:
        file, _, name = test.partition("::")
        is_there = name.partition("[")[0] in _tests_of(file)
        assert is_there, f"there is no {test}"


@cache
def _tests_of(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_no_mutant_is_there_twice() -> None:
    names = [mutant.name for mutant in mutants()]
    assert len(names) == len(set(names))
