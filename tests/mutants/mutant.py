"""The tables of mutants, read and applied."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "polyb2"
TESTS = ROOT / "tests"
_FIELDS = {"guards", "file", "text", "becomes", "killed_by", "behind"}


@dataclass(frozen=True)
class Edit:
    """A piece of a file of the package, and what stands in its place."""

    file: str
    text: str
    becomes: str

    def applied(self, package: Path) -> str:
        """The whole file, changed; ValueError unless the text is there exactly once."""
        whole = (package / self.file).read_text()
        if (found := whole.count(self.text)) != 1:
            raise ValueError(f"{self.file} has {found} times: {self.text}")
        return whole.replace(self.text, self.becomes)


@dataclass(frozen=True)
class Mutant:
    """A check taken out of the package.

    Attributes:
        guards: the guarantee, and the check in words.
        edits: the check; after it those that stand behind it and have to go as well before anything can be seen.
        killed_by: node ids below ``tests/``; one of these tests has to fail.
    """

    guards: str
    edits: tuple[Edit, ...]
    killed_by: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.edits[0].file}: {self.guards}"

    def apply(self, package: Path) -> None:
        """Change a copy of the package."""
        for edit in self.edits:
            changed = edit.applied(package)
            file = package / edit.file
            for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
                compiled.unlink()
            file.write_text(changed)


def mutants() -> list[Mutant]:
    """All of the tables."""
    return [mutant for table in sorted(Path(__file__).parent.glob("*.toml")) for mutant in _read(table)]


def _read(table: Path) -> Iterator[Mutant]:
    for entry in tomllib.loads(table.read_text())["mutant"]:
        if unknown := entry.keys() - _FIELDS:
            raise ValueError(f"{table.name}: {sorted(unknown)} in {entry}")
        edits = tuple(_edit(edit) for edit in (entry, *entry.get("behind", ())))
        yield Mutant(entry["guards"], edits, tuple(entry["killed_by"]))


def _edit(entry: dict[str, Any]) -> Edit:
    return Edit(entry["file"], entry["text"], entry["becomes"])
