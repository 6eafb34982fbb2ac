"""The loader: every name once, the same parameters, a reason for each difference; and the dialects that there are."""

from __future__ import annotations

import re
from inspect import getmembers, isfunction, signature
from types import ModuleType

import pytest

from polyb2.ledger.sql.loader import StatementsError, combine, load_statements
from polyb2.ledger.verbs import (
    claims,
    days,
    facts,
    leases,
    listings,
    rounds,
    selection,
    settlements,
    soundness,
    status,
    uploads,
)

COMMON = """
-- define: waiting
-- Words that are no part of it.
status = 'pending'

-- name: first
-- A comment.
SELECT id FROM files {by(files_pending)} WHERE {waiting} AND key = :key;

-- dialect: second(keys)
-- What it means.
"""
DIALECT = """
-- define: by(index)
INDEXED BY {index}

-- name: second
-- Differs: json_each.
SELECT :now_ms AS now_ms FROM json_each(:keys);
"""


VERBS = [claims, days, facts, leases, listings, rounds, selection, settlements, soundness, status, uploads]


@pytest.mark.parametrize("module", VERBS, ids=lambda module: str(module.__name__).rpartition(".")[2])
def test_no_verb_uses_its_parameters_up_as_a_transaction_may_run_again(module: ModuleType) -> None:
    verbs = [verb for _, verb in getmembers(module, isfunction) if "tx" in signature(verb).parameters]
    takes = [(verb.__name__, str(one)) for verb in verbs for one in signature(verb).parameters.values()]
    assert [one for one in takes if re.search(r"\b(Iterable|Iterator)\b", one[1])] == []


def test_common_and_dialect_make_one_set_with_everything_put_in() -> None:
    found = combine(COMMON, DIALECT)
    assert set(found) == {"first", "second"}
    assert (
        found["first"].sql == "SELECT id FROM files INDEXED BY files_pending WHERE status = 'pending' AND key = :key;"
    )
    assert (set(found["first"].parameters), found["first"].uses_clock) == ({"key"}, False)
    assert (set(found["second"].parameters), found["second"].uses_clock) == ({"keys"}, True)


@pytest.mark.parametrize(
    ("common", "dialect", "words"),
    [
        (COMMON + "-- name: first\nSELECT 1;", DIALECT, "defined twice: first"),
        (COMMON, DIALECT + "-- name: second\n-- Differs: x.\nSELECT :keys;", "defined twice: second"),
        (COMMON, DIALECT + "-- define: waiting\nTRUE", "defined twice: waiting"),
        (COMMON, DIALECT + "-- name: first\n-- Differs: x.\nSELECT 1;", "first is not announced"),
        (COMMON, DIALECT + "-- name: third\n-- Differs: x.\nSELECT 1;", "third is not announced"),
        (COMMON, DIALECT.replace("Differs: ", ""), "second does not say why it differs"),
        (COMMON, DIALECT.replace(":keys", ":names"), r"second has the parameters \['names'\], not \['keys'\]"),
        (COMMON, DIALECT.replace("(:keys)", "(:keys, :more)"), "second has the parameters"),
        (COMMON, DIALECT.partition("-- name")[0], "second is announced in common.sql, and the dialect lacks it"),
        (COMMON, DIALECT.replace("by(index)", "hint(index)"), r"first uses \{by\(files_pending\)\}"),
        (COMMON.replace("{waiting}", "{waiting(x)}"), DIALECT, r"first uses \{waiting\(x\)\}"),
    ],
)
def test_what_does_not_fit_is_refused(common: str, dialect: str, words: str) -> None:
    with pytest.raises(StatementsError, match=words):
        combine(common, dialect)


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_the_statements_of_each_dialect_fit(dialect: str) -> None:
    found = load_statements(dialect)
    assert len(found) > 100
    assert not [name for name, one in found.items() if re.search(r"[{}?]|--", one.sql) or not one.sql.endswith(";")]
