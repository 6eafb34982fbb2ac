"""The ledger: its place, file system, SQLite and binding; the results that a run needs are stored in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from polyb2.core.units import format_size
from polyb2.doctor.checks import Notes
from polyb2.flow.mirror import OPAQUE
from polyb2.ledger.binding import TARGET_ETAGS, Binding
from polyb2.ledger.files import open_to_others
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.lock import SQLITE_VERSION, has_wal_reset_bug
from polyb2.ledger.place import file_system_of

FREE_BYTES_MIN = 1 << 30
"""A million files take less than that."""


async def examine_ledger(
    notes: Notes, path: Path, binding: Binding | None, *, part_etags_are_md5s: bool | None
) -> None:
    """Check the ledger's place, create it if it does not exist, and store the results.

    Args:
        notes: where the checks go.
        path: the ledger's file.
        binding: the pair that the settings name; None where they are incomplete.
        part_etags_are_md5s: property of the target; None if that is not known.

    Raises:
        FailedError: no run can work with it.
    """
    _note_file_system(notes, path)
    with notes.checking("open"):
        ledger = await Ledger.open(path)
    try:
        notes.passed("open", f"{path} can be written")
        _note_others(notes, path)
        _note_room(notes, path)
        if binding is None:
            notes.skipped("binding", "the settings are incomplete")
            return
        with notes.checking("binding"):
            await ledger.bind(binding)
            if part_etags_are_md5s is not None:
                await ledger.remember(TARGET_ETAGS, None if part_etags_are_md5s else OPAQUE)
        notes.passed("binding", "belongs to this source and this bucket")
    finally:
        await ledger.close()


def note_sqlite(notes: Notes) -> None:
    """Note the version and its consequences."""
    version = f"SQLite {SQLITE_VERSION}, WAL, synchronous=FULL"
    if has_wal_reset_bug():
        notes.passed("sqlite", f"{version}; it has the WAL-reset bug, so writes take turns by a lock file")
    else:
        notes.passed("sqlite", version)


def _note_file_system(notes: Notes, path: Path) -> None:
    found = file_system_of(path)
    if found is None:
        notes.skipped("file_system", "this system does not say")
    elif found.is_passing:
        words = f"{path} lies on {found.kind}: it goes with the container or the next boot"
        notes.doubtful(
            "file_system", words, "mount a volume and point DATABASE_URL there; a lost ledger is rebuilt by discover"
        )
    elif not found.is_network:
        notes.passed("file_system", f"{found.kind}, mounted at {found.mounted_at}")


def _note_others(notes: Notes, path: Path) -> None:
    real = path.resolve()
    if words := open_to_others(real):
        cure = f"chmod o-rw {real}, and o-w for its folder: it shows what you mirror, and a run obeys it"
        notes.doubtful("others", f"{real}: {words}", cure)
    else:
        notes.passed("others", "no other user may read or write it")


def _note_room(notes: Notes, path: Path) -> None:
    free = shutil.disk_usage(path.parent).free
    words = f"{format_size(free)} free"
    if free < FREE_BYTES_MIN:
        notes.doubtful("room", words, f"keep {format_size(FREE_BYTES_MIN)} free: a full disk stops all work")
    else:
        notes.passed("room", words)
