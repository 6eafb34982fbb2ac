"""Loads the statements of a dialect: ``common.sql`` and, beside it, what the dialect says in its own words.

``common.sql`` is the whole list of names: a statement, or the announcement of one that each dialect has. The loader refuses a
name that comes twice, one that is not announced or is missing, parameters that differ from the announcement, and a statement
of a dialect that does not say why it differs. So two dialects cannot drift apart without a failing test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

CLOCK = frozenset({"now_ms", "mono_ms", "boot_id"})
"""Parameters that the transaction fills in: the ledger's clock, of which each dialect uses what it needs."""
_HEADING = re.compile(r"^-- (name|define|dialect): (\w+)(?:\(([\w, ]*)\))?$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--(.*)\n", re.MULTILINE)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")
_BRACES = re.compile(r"\{(\w+)(?:\(([^{}()]*)\))?\}")
_NESTED_MAX = 5


class StatementsError(Exception):
    """The files of statements contradict each other: a mistake in the program."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with everything put in.

    Attributes:
        sql: without comments.
        parameters: their names, without those of the clock.
        uses_clock: it has parameters of the clock.
    """

    sql: str
    parameters: frozenset[str]
    uses_clock: bool


@dataclass(frozen=True, slots=True)
class _Piece:
    """One heading and what follows it."""

    what: str
    name: str
    arguments: str
    body: str
    comment: str


@cache
def load_statements(dialect: str) -> Mapping[str, Statement]:
    """All statements of a dialect, by name."""
    return combine(_read("common"), _read(dialect))


def combine(common: str, dialect: str) -> dict[str, Statement]:
    """The statements of both texts.

    Raises:
        StatementsError: they do not fit.
    """
    shared, own = list(_pieces(common)), list(_pieces(dialect))
    defined = {piece.name: piece for piece in shared + own if piece.what == "define"}
    announced = {piece.name: piece for piece in shared if piece.what == "dialect"}
    _refuse_doubles([piece.name for piece in shared] + [piece.name for piece in own if piece.what == "define"])
    _refuse_doubles([piece.name for piece in own])
    found = {piece.name: _statement(piece, defined) for piece in shared + own if piece.what == "name"}
    for piece in own:
        if piece.what == "name" and piece.name not in announced:
            raise StatementsError(f"{piece.name} is not announced in common.sql")
        if piece.what == "name" and "Differs:" not in piece.comment:
            raise StatementsError(f"{piece.name} does not say why it differs")
    for name, piece in announced.items():
        if name not in found:
            raise StatementsError(f"{name} is announced in common.sql, and the dialect lacks it")
        if found[name].parameters != (wanted := frozenset(re.findall(r"\w+", piece.arguments))):
            raise StatementsError(f"{name} has the parameters {sorted(found[name].parameters)}, not {sorted(wanted)}")
    return found


def _pieces(text: str) -> Iterator[_Piece]:
    _, *rest = _HEADING.split(text)
    for what, name, arguments, body in zip(*(rest[first::4] for first in range(4)), strict=True):
        comment = " ".join(_COMMENT.findall(body + "\n"))
        yield _Piece(what, name, arguments or "", _COMMENT.sub("", body + "\n").strip(), comment)


def _refuse_doubles(names: list[str]) -> None:
    if doubles := {name for name in names if names.count(name) > 1}:
        raise StatementsError(f"defined twice: {', '.join(sorted(doubles))}")


def _statement(piece: _Piece, defined: Mapping[str, _Piece]) -> Statement:
    sql = piece.body
    for _ in range(_NESTED_MAX):
        sql = _BRACES.sub(lambda match: _put_in(piece, defined, match), sql)
    parameters = frozenset(_PARAMETER.findall(sql))
    return Statement(sql, parameters - CLOCK, bool(parameters & CLOCK))


def _put_in(piece: _Piece, defined: Mapping[str, _Piece], match: re.Match[str]) -> str:
    word, argument = match.groups()
    if word not in defined or bool(argument) != bool(defined[word].arguments):
        raise StatementsError(f"{piece.name} uses {match[0]}, which is not defined like that")
    body = defined[word].body
    return body.replace("{" + defined[word].arguments + "}", argument) if argument else body


def _read(name: str) -> str:
    return files("polyb2.ledger.sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")
