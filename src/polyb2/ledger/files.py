"""The ledger's files on disk: found by their real path, and made for their owner.

Invariant: only SQLite ever has a descriptor of a database that exists, or of its ``-wal`` and ``-shm``. POSIX locks belong to
the process, and closing any descriptor of a file drops every lock that the process has on it, SQLite's among them
(https://sqlite.org/howtocorrupt.html, 2.2). All that this module asks of these files it asks by name, with ``stat``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyb2 import descriptors
from polyb2.core.errors import UsageError
from polyb2.ledger.place import file_system_of

LOCK = ".lock"
_SIDE_FILES = ("-wal", "-shm", "-journal", LOCK)
_LINKS_MAX = 40
_PATH_BYTES_MAX = 504
"""SQLite takes paths of 512 bytes, and appends ``-journal``; what is longer it "cannot open"."""
_NAME_BYTES_MAX = 255 - len("-journal")


@contextmanager
def translated_os(path: Path) -> Iterator[None]:
    """The file system's errors as a usage error that names the place."""
    try:
        yield
    except OSError as error:
        words = f"{error.strerror}; set DATABASE_URL to a place that can be written"
        if error.errno == errno.EACCES:
            words = f"{error.strerror} to uid {os.geteuid()}; give it the folder (chown), or {words.partition('; ')[2]}"
        raise UsageError(f"the ledger cannot be kept at {path}: {descriptors.words(error) or words}") from error


def can_write_beside(real: Path) -> bool:
    """Whether this process may make files in the ledger's folder, which a read-only mount forbids to root as well."""
    return os.access(real.parent, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def find(path: Path) -> Path:
    """The real path of the ledger, which need not exist: one name for its lock, its ``-wal`` and itself.

    Raises:
        UsageError: the file has another name or mount beside this one, or others could have put it there.
    """
    _refuse_long(path)
    with translated_os(path):
        _refuse_planted_links(path)
        real = Path(os.path.realpath(path))
        _refuse_long(real)
        _refuse_odd(real, "set DATABASE_URL to a plain file")
        for suffix in _SIDE_FILES:
            _refuse_odd(beside(real, suffix), "it is no file of polyb2's: remove it")
        found = _stat(real)
    if found is not None and found.st_nlink > 1:
        raise UsageError(
            f"{real} has {found.st_nlink} names (hard links); SQLite keeps recent writes beside the name that it is opened "
            f"by, and through another name they are lost: remove the others (find / -xdev -samefile {real})"
        )
    place = file_system_of(real)
    if found is not None and place is not None and place.mounted_at == str(real):
        raise UsageError(
            f"{real} is mounted as a single file; SQLite keeps recent writes in files beside it, which the mount leaves "
            "out: mount the folder instead"
        )
    return real


def make(real: Path) -> None:
    """Make the folder and the file, or check that an existing file may be written.

    Raises:
        UsageError: they cannot be made or written, or lie on a network file system.
    """
    place = file_system_of(real)
    if place is not None and place.is_network:
        raise UsageError(
            f"the ledger cannot be kept at {real}: {place.mounted_at} is a network file system ({place.kind}), on which "
            "SQLite's locks do not hold; set DATABASE_URL to a local disk or block volume"
        )
    with translated_os(real):
        if _stat(real) is not None:
            _check_access(real, os.R_OK | os.W_OK)
            return
        _make_folder(real.parent)
        try:
            # The ledger knows what its owner trades on: nobody else is to read it. What O_EXCL makes nobody has open, so
            # that closing this descriptor drops no lock.
            descriptor = os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return  # by another process, at the same time
        try:
            _give_to_owner_of(real.parent.stat(), descriptor)
        finally:
            os.close(descriptor)


def check_readable(real: Path) -> bool:
    """Whether a file is there; UsageError if it may not be read."""
    with translated_os(real):
        if _stat(real) is None:
            return False
        _check_access(real, os.R_OK)
    return True


def is_empty(real: Path) -> bool:
    """Whether the file is there without content, as a writer that was cut off leaves it."""
    with translated_os(real):
        return real.stat().st_size == 0


def beside(real: Path, suffix: str) -> Path:
    return real.with_name(real.name + suffix)


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
        pass  # of the ledger; who looks at it says so
    except BaseException:  # raised again; nobody else knows of the descriptor
        os.close(descriptor)
        raise
    return descriptor


def open_to_others(real: Path) -> str | None:
    """What other users of this host may do with the ledger, in words; None for nothing."""
    mode, folder = real.stat().st_mode, real.parent.stat().st_mode
    if mode & stat.S_IWOTH:
        return "everybody may write it"
    if _all_may_write(folder) and not folder & stat.S_ISVTX:
        return "everybody may replace it, as they may write its folder"
    return "everybody may read it" if mode & stat.S_IROTH else None


def _all_may_write(mode: int) -> bool:
    return bool(mode & stat.S_IWOTH)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _refuse_long(path: Path) -> None:
    size = len(os.fsencode(path))
    longest = max(len(os.fsencode(name)) for name in (path.name, *path.parts))
    if size > _PATH_BYTES_MAX or longest > _NAME_BYTES_MAX:
        raise UsageError(
            f"the ledger's path {str(path)[:60]}... is too long ({size} bytes): SQLite takes {_PATH_BYTES_MAX} and the file "
            f"system {_NAME_BYTES_MAX} for each name in it; set DATABASE_URL to a shorter one"
        )


def _refuse_planted_links(path: Path) -> None:
    for link in _links(path):
        found = link.lstat()
        if _is_strangers(found, link.parent.stat()):
            raise UsageError(
                f"{link} is a symbolic link that another user (uid {found.st_uid}) put into a folder that everybody may "
                "write: it is not followed; set DATABASE_URL to a folder of your own"
            )


def _links(path: Path) -> Iterator[Path]:
    """Every symbolic link on the way to a path, as the kernel meets them."""
    rest = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow the links
    for _ in range(_LINKS_MAX):
        link = next((one for one in (*reversed(rest.parents), rest) if one.is_symlink()), None)
        if link is None:
            return
        yield link
        target = link.parent / link.readlink() / rest.relative_to(link)
        rest = Path(os.path.abspath(target))  # noqa: PTH100


def _refuse_odd(path: Path, cure: str) -> None:
    found = _stat(path)
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "a device, a pipe or a socket"
        raise UsageError(f"{path} is {kind}, in which no ledger is kept: {cure}")
    if _is_strangers(found, path.parent.stat()):
        raise UsageError(
            f"{path} belongs to another user (uid {found.st_uid}) in a folder that everybody may write: anybody could have "
            "put it there; set DATABASE_URL to a folder of your own, or close this one (chmod o-w)"
        )


def _is_strangers(found: os.stat_result, folder: os.stat_result) -> bool:
    """Whether another ordinary user could have put it there: neither we, nor root, nor the folder's own owner."""
    return _all_may_write(folder.st_mode) and found.st_uid not in {0, os.geteuid(), folder.st_uid}


def _check_access(real: Path, mode: int) -> None:
    """Raise unless the ledger and what SQLite has beside it can be opened: a copy that was put back may have other owners."""
    for path in (real, beside(real, "-wal"), beside(real, "-shm")):
        found = _stat(path)
        if found is None or os.access(path, mode, effective_ids=os.access in os.supports_effective_ids):
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
