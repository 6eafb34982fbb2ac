"""The ledger's files on disk: made for their owner, and watched while they are open.

Invariant: only SQLite ever has a descriptor of a database that exists, or of its ``-wal`` and ``-shm``. POSIX locks belong to
the process, and closing any descriptor of a file drops every lock that the process has on it, SQLite's among them
(https://sqlite.org/howtocorrupt.html, 2.2). All that this module asks of these files it asks by name, with ``stat``.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from polyb2.core.errors import LedgerError, LedgerGoneError, UsageError
from polyb2.ledger.sqlite.file_system import LOCK, all_may_write, beside, file_system_of, find_stat, may, translated_os

_WATCHED = ("", "-wal", "-shm")
_SIZED = ("", "-wal")


def make(real: Path) -> None:
    """Make the folder and the file, or check that an existing file may be written.

    Raises:
        UsageError: they cannot be made or written, or lie on a network file system.
    """
    _refuse_network(real)
    with translated_os(real):
        if find_stat(real) is not None:
            _check_access(real, os.R_OK | os.W_OK)
            return
        _make_folder(real.parent)
        try:
            # The ledger knows what its owner trades on: no other user is to read it. No process has open what O_EXCL makes:
            # closing this descriptor drops no lock.
            descriptor = os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return  # by another process, at the same time
        try:
            _give_to_owner_of(real.parent.stat(), descriptor)
        finally:
            os.close(descriptor)


def check_makeable(real: Path) -> None:
    """Check that a ledger can be made, by a file without a name in the nearest folder that is there.

    Raises:
        UsageError: it cannot.
    """
    _refuse_network(real)
    folder = next(parent for parent in real.parents if parent.exists())
    with translated_os(real), tempfile.TemporaryFile(dir=folder):
        pass


def check_readable(real: Path) -> bool:
    """True if a file is there; UsageError if it may not be read."""
    with translated_os(real):
        if find_stat(real) is None:
            return False
        _check_access(real, os.R_OK)
    return True


def is_empty(real: Path) -> bool:
    """True if the file is there without content, as a writer that was cut off leaves it."""
    with translated_os(real):
        return real.stat().st_size == 0


def open_lock(real: Path, *, may_make: bool) -> int:
    """A descriptor of the lock file beside the ledger; a new one gets the owner and mode of the ledger.

    Raises:
        FileNotFoundError: it is not there and is not to be made.
        OSError: it cannot be opened; a symbolic link is not followed.
    """
    path = beside(real, LOCK)
    access = os.O_RDWR if may_make else os.O_RDONLY
    flags = access | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    if not may_make:
        return os.open(path, flags)
    descriptor = os.open(path, flags | os.O_CREAT, 0o600)
    try:
        _match(real.stat(), descriptor)
    except FileNotFoundError:
        pass  # of the ledger; a look at it says so
    except BaseException:  # raised again; nothing else knows of the descriptor
        os.close(descriptor)
        raise
    return descriptor


def open_to_others(real: Path) -> str | None:
    """Words for what other users of this host may do with the ledger; None for nothing."""
    mode, folder = real.stat().st_mode, real.parent.stat().st_mode
    if mode & stat.S_IWOTH:
        return "everybody may write it"
    if all_may_write(folder) and not folder & stat.S_ISVTX:
        return "everybody may replace it, as they may write its folder"
    return "everybody may read it" if mode & stat.S_IROTH else None


def _refuse_network(real: Path) -> None:
    place = file_system_of(real)
    if place is not None and place.is_network:
        raise UsageError(
            f"the ledger cannot be kept at {real}: {place.mounted_at} is a network file system ({place.kind}), on which "
            "SQLite's locks do not hold; set DATABASE_URL to a local disk or block volume"
        )


def _check_access(real: Path, mode: int) -> None:
    """Raise unless the ledger and what SQLite has beside it can be opened: a copy that was put back may have other owners."""
    for path in (real, beside(real, "-wal"), beside(real, "-shm")):
        found = find_stat(path)
        if found is None or may(path, mode):
            continue
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        what = "written" if mode & os.W_OK else "read"
        raise UsageError(
            f"{path} belongs to uid {found.st_uid} and may not be {what} by uid {os.geteuid()}: run polyb2 as the user "
            f"whose ledger it is, or give {real}* to one user (chown)"
        )


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o755)
        if _is_root():
            owner = folder.parent.stat()
            os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _give_to_owner_of(owner: os.stat_result, descriptor: int) -> None:
    """Root works for whoever owns the place: what it makes there must not shut them out."""
    if _is_root():
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _match(ledger: os.stat_result, descriptor: int) -> None:
    """Give a side file the ledger's owner and mode, as far as this user may; root mends what is there, too."""
    found = os.fstat(descriptor)
    mode = stat.S_IMODE(ledger.st_mode) & 0o666
    if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (ledger.st_uid, ledger.st_gid, mode):
        return
    with suppress(PermissionError):
        if _is_root():
            os.fchown(descriptor, ledger.st_uid, ledger.st_gid)
        elif found.st_uid == os.geteuid() and found.st_gid != ledger.st_gid:
            os.fchown(descriptor, -1, ledger.st_gid)
    with suppress(PermissionError):
        os.fchmod(descriptor, mode)


def _is_root() -> bool:
    return os.geteuid() == 0


class OpenFiles:
    """The files of an open ledger, as they were when it was opened: by their identity and size, asked by name.

    A file that is removed or replaced stays open under SQLite, and what is written into it is gone with the process; one that
    is cut loses pages. SQLite itself notices neither (https://sqlite.org/howtocorrupt.html, 2.4).

    Until they are noted, none is watched.

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
        self._sizes = {suffix: size for suffix, size in self._seen.items() if suffix in _SIZED}

    def has_shrunk(self) -> bool:
        """True if the database or its ``-wal`` was cut or cleared: smaller at the last check than after our last write."""
        return any(self._seen[suffix] < size for suffix, size in self._sizes.items())

    def check(self) -> None:
        """Raise if a name no longer leads to the file that SQLite has open, and record the sizes seen.

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
        """Keep the error for good, and return it: the files were removed, replaced or cut."""
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
