"""Whether the files of an open ledger are still those that SQLite has open: by their identity and size, asked by name.

A file that is removed or replaced stays open under SQLite, and what is written into it is gone with the process; one that is
cut loses pages. Neither is noticed by SQLite itself (https://sqlite.org/howtocorrupt.html, 2.4).
"""

from __future__ import annotations

import os
from pathlib import Path

from polyb2.core.errors import LedgerError, LedgerGoneError
from polyb2.ledger.files import beside

_WATCHED = ("", "-wal", "-shm")
_SIZED = ("", "-wal")


class Watched:
    """The files of an open ledger, as they were when it was opened.

    Attributes:
        problem: the error that says what became of them; once set, nothing is written any more.
    """

    def __init__(self, real: Path) -> None:
        self.real = real
        self.problem: LedgerGoneError | None = None
        # Looked at twice a write, by plain names: putting a Path together costs more than asking the kernel.
        self._names = {suffix: str(beside(real, suffix)) for suffix in _WATCHED}
        self._identities: dict[str, tuple[int, int]] = {}
        self._sizes: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def begin(self) -> None:
        """Note the file that SQLite is about to open."""
        self._note("")

    def note(self) -> None:
        """Take the files for those that SQLite has open, if the database is still the one of the beginning."""
        self.check()
        for suffix in _WATCHED:
            self._note(suffix)
        self.check()
        self.note_sizes()

    def _note(self, suffix: str) -> None:
        found = self._look(suffix)
        self._identities[suffix] = (found.st_dev, found.st_ino)

    def note_sizes(self) -> None:
        """Take the sizes that the last check saw for those after our last write."""
        self._sizes = {suffix: self._seen[suffix] for suffix in _SIZED}

    def has_shrunk(self) -> bool:
        """Whether the database or its ``-wal`` was smaller at the last check than after our last write.

        They were cut, or cleared by another program.
        """
        return any(self._seen[suffix] < size for suffix, size in self._sizes.items())

    def check(self) -> None:
        """Raise if a name no longer leads to the file that SQLite has open; see the sizes.

        Raises:
            LedgerGoneError: it was removed or replaced.
            LedgerError: it cannot be looked at.
        """
        if self.problem is not None:
            raise self.problem
        for suffix, identity in self._identities.items():
            found = self._look(suffix)
            if (found.st_dev, found.st_ino) != identity:
                raise self.lost(f"{beside(self.real, suffix)} was replaced by another file")
            self._seen[suffix] = found.st_size

    def lost(self, words: str) -> LedgerGoneError:
        """Remember for good that the files are no longer the ones that were opened."""
        self.problem = LedgerGoneError(
            f"the ledger is gone: {words} while polyb2 had it open; nothing more is written. Stop what did that, put back "
            "a whole copy or leave the file away, and start polyb2 again: polyb2 discover adopts what is in the bucket"
        )
        return self.problem

    def _look(self, suffix: str) -> os.stat_result:
        path = self._names[suffix]
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise self.lost(f"{path} was removed") from None
        except OSError as error:
            words = f"the ledger's file {path} cannot be looked at: {error.strerror}; check the disk"
            raise LedgerError(words, may_pass=True) from error
