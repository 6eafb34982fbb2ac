"""Loads ``queries.sql``: each statement by its name, with the shared predicates put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_HEADING = re.compile(r"^-- (name|define): (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@cache
def load_queries() -> Mapping[str, str]:
    """All named statements, without comments."""
    text = files("polyb2.ledger").joinpath("queries.sql").read_text(encoding="utf-8")
    _, *pieces = _HEADING.split(text)
    defined: dict[str, str] = {}
    queries: dict[str, str] = {}
    for what, name, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        sql = _COMMENT.sub("", body + "\n").strip()
        for word, predicate in defined.items():
            sql = sql.replace("{" + word + "}", predicate)
        (defined if what == "define" else queries)[name] = sql
    return queries


def load_migrations() -> list[str]:
    """The migration scripts in order; the n-th leads to schema version n."""
    folder = files("polyb2.ledger").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [folder.joinpath(name).read_text(encoding="utf-8") for name in names]
