"""The stores that the conformance suite runs on: each a place for one test's ledger, with a look into its tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol


class Place(Protocol):
    """Where a test's ledger is."""

    @property
    def url(self) -> str:
        """As ``DATABASE_URL`` has it."""

    def sql(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Read tables by a connection of the test's own; ``?`` are the parameters."""

    def close(self) -> None:
        """End the connection of the test."""


class SqlitePlace:
    """A file in the test's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"
        self.url = f"sqlite:///{self.path}"
        self._reader: sqlite3.Connection | None = None

    def sql(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        if self._reader is None:
            self._reader = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)
            self._reader.row_factory = sqlite3.Row
        return [dict(row) for row in self._reader.execute(statement, parameters)]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


PLACES: dict[str, Callable[[Path], Place]] = {"sqlite": SqlitePlace}
"""By the scheme of their URL; the suite runs on each."""


def read_sql(path: Path, statement: str, *parameters: object) -> list[dict[str, Any]]:
    """Read a SQLite ledger by a connection that is closed again."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement, parameters)]
