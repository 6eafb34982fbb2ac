"""Several processes write, checkpoint, open, close and read one ledger at once, as on SQLite with the WAL-reset bug."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from polyb2.clock import Clock
from polyb2.ledger.sqlite.store import open_store
from polyb2.ledger.store import Transaction
from polyb2.ledger.verbs.facts import fact, remember
from tests.faults.watch import must

ROUNDS, WRITES = 12, 25
_ROOT = Path(__file__).parents[2]


async def hammer(writers: int, readers: int) -> str:
    """Let that many processes at it; every write must be there and the file whole.

    Raises:
        ViolationError: a write was lost, a process failed, or the database is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="polyb2-hammer-") as folder:
        path = Path(folder) / "ledger.db"
        await (await open_store(path, Clock())).close()
        kinds = ["write"] * writers + ["read"] * readers
        processes = [await _start(kind, path) for kind in kinds]
        ended = await asyncio.gather(*(process.communicate() for process in processes))
        for process, (_, err) in zip(processes, ended, strict=True):
            must(process.returncode == 0, f"a process ended with {process.returncode}: {err.decode()[-300:]}")
        with closing(sqlite3.connect(path)) as connection:
            must(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "the database is damaged")
            (count,) = connection.execute("SELECT value FROM facts WHERE name = 'count'").fetchone()
        wanted = writers * ROUNDS * WRITES
        must(int(count) == wanted, f"{wanted - int(count)} of {wanted} writes are lost")
        return f"{wanted} writes, SQLite {sqlite3.sqlite_version}"


async def _start(kind: str, path: Path) -> asyncio.subprocess.Process:
    words = [sys.executable, "-m", "tests.faults.hammer", kind, str(path)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)}
    return await asyncio.create_subprocess_exec(*words, env=environment, stderr=asyncio.subprocess.PIPE)


def _count_up(tx: Transaction) -> None:
    remember(tx, "count", str(int(fact(tx, "count") or 0) + 1))
    remember(tx, f"filler {os.getpid() % 7}", "x" * 9000)  # some pages, so that checkpoints have work


async def _write(path: Path) -> None:
    for _ in range(ROUNDS):
        database = await open_store(path, Clock())
        # A checkpoint, and a log that begins anew, every few writes.
        await database._submit(lambda connection, _: connection.execute("PRAGMA wal_autocheckpoint = 8"), None)
        for _ in range(WRITES):
            await database.write("hammer", _count_up)
        await database.close()


async def _read(path: Path) -> None:
    newest = 0
    for _ in range(ROUNDS):
        database = await open_store(path, Clock(), read_only=True)
        for _ in range(WRITES):
            count = int(await database.read(lambda tx: fact(tx, "count")) or 0)
            must(count >= newest, "a reader went back in time")
            newest = count
            await asyncio.sleep(0.005)
        await database.close()


if __name__ == "__main__":
    asyncio.run({"write": _write, "read": _read}[sys.argv[1]](Path(sys.argv[2])))
