"""The POSIX locks that processes have on a ledger's files, as the kernel tells them."""

from __future__ import annotations

import os
from pathlib import Path


def held_locks(path: Path, pid: int | None = None) -> list[str]:
    """The locks of a process (by default this one) on the ledger and its side files."""
    wanted = {}
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            wanted[beside.stat().st_ino] = suffix or "database"
    found = []
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if "->" in fields[1] or fields[1] != "POSIX" or int(fields[4]) != (pid or os.getpid()):
            continue
        inode = int(fields[5].rsplit(":", 1)[1])
        if inode in wanted:
            found.append(" ".join([wanted[inode], fields[3], *fields[6:]]))
    return sorted(found)
