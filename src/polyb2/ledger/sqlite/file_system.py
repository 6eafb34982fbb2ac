"""The place of the ledger: its real path, its file system, and whether SQLite may be trusted with both.

A WAL database works between processes of one host only, as they share memory; on a network file system it gets corrupted
(https://sqlite.org/wal.html, "WAL does not work over a network filesystem"). Nothing here opens a file.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polyb2 import descriptors
from polyb2.core.errors import UsageError

LOCK = ".lock"
_SIDE_FILES = ("-wal", "-shm", "-journal", LOCK)
_LINKS_MAX = 40
_PATH_BYTES_MAX = 504
"""SQLite takes paths of 512 bytes, and appends ``-journal``; what is longer it "cannot open"."""
_FOLDER_BYTES_MAX = 255
_NAME_BYTES_MAX = _FOLDER_BYTES_MAX - len("-journal")
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
    "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.geesefs", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "fuse.mount-s3",
}  # fmt: skip
_VOLATILE = {"overlay", "aufs", "tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system by its type (``ext4``, ``nfs4``, ``overlay``) and where it is mounted."""

    kind: str
    mounted_at: str

    @property
    def is_network(self) -> bool:
        """True if several hosts may have it mounted, so that SQLite's locks and shared memory mean nothing."""
        return self.kind in _NETWORK

    @property
    def is_volatile(self) -> bool:
        """True if it goes with the container or with the next boot."""
        return self.kind in _VOLATILE


def file_system_of(path: Path) -> FileSystem | None:
    """The file system that holds ``path``, which need not exist yet; None where this system does not tell (no Linux)."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return find_mount(os.path.realpath(path), mounts)


def find_mount(path: str, mounts: str) -> FileSystem | None:
    """The entry of a ``mountinfo`` (proc(5)) that holds an absolute path; the later of two on the same place."""
    found: FileSystem | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if len(fields) < 5 or not kind:  # noqa: PLR2004 - the mount point is the fifth field
            continue
        point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[4])
        holds = path == point or path.startswith(point.rstrip("/") + "/")
        if holds and (found is None or len(point) >= len(found.mounted_at)):
            found = FileSystem(kind, point)
    return found


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
    """True if this process may make files in the ledger's folder, which a read-only mount forbids to root as well."""
    return may(real.parent, os.W_OK | os.X_OK)


def may(path: Path, mode: int) -> bool:
    """True if this process may use a path so.

    The question with effective ids takes a newer system call, which some sandboxes refuse; where no program changed its
    ids, the older one means the same.
    """
    changed = (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid())
    return os.access(path, mode, effective_ids=changed and os.access in os.supports_effective_ids)


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
        found = find_stat(real)
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


def beside(real: Path, suffix: str) -> Path:
    return real.with_name(real.name + suffix)


def all_may_write(mode: int) -> bool:
    return bool(mode & stat.S_IWOTH)


def find_stat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _refuse_long(path: Path) -> None:
    size = len(os.fsencode(path))
    name = len(os.fsencode(path.name))
    longest = max(len(os.fsencode(folder)) for folder in path.parts)
    if size > _PATH_BYTES_MAX or name > _NAME_BYTES_MAX or longest > _FOLDER_BYTES_MAX:
        raise UsageError(
            f"the ledger's path {str(path)[:60]}... is too long ({size} bytes, its name {name}): SQLite takes "
            f"{_PATH_BYTES_MAX}, {_NAME_BYTES_MAX} of them for the name, and the file system {_FOLDER_BYTES_MAX} for a "
            "folder; set DATABASE_URL to a shorter one"
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
    found = find_stat(path)
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
    """True if another ordinary user could have put it there: neither we, nor root, nor the folder's own owner."""
    return all_may_write(folder.st_mode) and found.st_uid not in {0, os.geteuid(), folder.st_uid}
