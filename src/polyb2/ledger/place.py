"""Where the ledger lies: its file system, and whether SQLite may be trusted with it.

A WAL database works between processes of one host only, as they share memory; on a network file system it gets corrupted
(https://sqlite.org/wal.html, "WAL does not work over a network filesystem").
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
    "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.geesefs", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "fuse.mount-s3",
}  # fmt: skip
_PASSING = {"overlay", "aufs", "tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system by its type (``ext4``, ``nfs4``, ``overlay``) and where it is mounted."""

    kind: str
    mounted_at: str

    @property
    def is_network(self) -> bool:
        """Whether several hosts may have it mounted, so that SQLite's locks and shared memory mean nothing."""
        return self.kind in _NETWORK

    @property
    def is_passing(self) -> bool:
        """Whether it goes with the container or with the next boot."""
        return self.kind in _PASSING


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
