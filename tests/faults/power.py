"""Power loss under the ledger: the database files as they are at a random moment under load, and what follows from them.

The process is stopped for the moment of the copy, so that it is what the disk holds if everything written so far got
there; what was written after the last commit is torn, as nothing promises that. Each copy must open, be consistent, and
the run that goes on from it must end as if nothing had happened; an older copy as well (a restored backup).
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from polyb2.sandbox import Drip, Fault, GeneratedGzip
from polyb2.sandbox.objects import InMemory
from tests.faults.death import LEASE_S, SYNC, killed, receipts_of, settled, start
from tests.faults.runners import stands_still
from tests.faults.watch import must
from tests.faults.world import LARGE, MIB, World, a_world

COPIES_A_RUN = 6
_WAL_HEADER, _FRAME_HEADER = 32, 24
RECOUNT = (
    """SELECT dataset, status, count(*), sum(size), sum(bytes_done) FROM files GROUP BY dataset, status ORDER BY 1, 2"""
)
KEPT = "SELECT dataset, status, files, bytes, bytes_done FROM counts WHERE files ORDER BY 1, 2"


class PowerLoss:
    """Takes copies with a seed; ``copies`` counts them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.copies = 0

    async def run(self) -> bool:
        """One mirror, copied at random moments, that goes on from the last copy, and then once more from an older one.

        Raises:
            ViolationError: a guarantee did not hold.
        """
        async with a_world() as world:
            world.settings = {"polyb2_lease_seconds": float(LEASE_S), "polyb2_part_tries": 10}
            self._fill(world)
            process = await start(world, *SYNC)
            copies: list[Path] = []
            try:
                await self._copy_now_and_then(world, process, copies)
            finally:
                await killed(process)
            await settled(world)
            must(copies, "the process ended before a copy was taken")
            world.box.source.clear_faults()
            for copy in (copies[-1], self.chance.choice(copies)):
                await self._go_on_from(world, copy)
            return True

    @staticmethod
    def _fill(world: World) -> None:
        world.publish(LARGE, GeneratedGzip(31 * MIB))
        for number in range(1, 24):
            world.publish(f"us_stocks_sip/day_aggs_v1/2024/02/2024-02-{number:02}.csv.gz", InMemory(b"row\n" * 5000))
        world.box.source.inject(Fault("get", Drip(12 * MIB), times=0))

    async def _copy_now_and_then(self, world: World, process: asyncio.subprocess.Process, copies: list[Path]) -> None:
        ledger = world.folder / "ledger.db"
        while not ledger.exists():
            await asyncio.sleep(0.005)
        for number in range(COPIES_A_RUN):
            await asyncio.sleep(self.chance.uniform(0.02, 0.3))
            if process.returncode is not None:
                break
            process.send_signal(signal.SIGSTOP)
            if not await stands_still(process):
                break
            copies.append(self._copy(ledger, world.folder / f"copy-{number}"))
            _check_consistent(copies[-1])
            self.copies += 1
            if number < COPIES_A_RUN - 1:
                process.send_signal(signal.SIGCONT)

    def _copy(self, ledger: Path, to: Path) -> Path:
        to.mkdir()
        copy = to / ledger.name
        shutil.copyfile(ledger, copy)
        log = ledger.with_name("ledger.db-wal")
        if log.exists():
            data = log.read_bytes()
            torn = self.chance.randbytes(self.chance.randrange(1, 9000))
            copy.with_name(log.name).write_bytes(data[: _committed(data)] + torn)
        return copy

    async def _go_on_from(self, world: World, copy: Path) -> None:
        for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
            (world.folder / name).unlink(missing_ok=True)
            if copy.with_name(name).exists():
                shutil.copyfile(copy.with_name(name), world.folder / name)
        world.receipts.forget()
        world.receipts.prime(receipts_of(world))
        await world.run(selected=True)
        await world.check_after()


def _committed(log: bytes) -> int:
    """Where the last commit of a write-ahead log ends: https://sqlite.org/fileformat2.html#walformat."""
    end = _WAL_HEADER
    if len(log) < _WAL_HEADER:
        return len(log)
    page_bytes, salts = struct.unpack(">I", log[8:12])[0], log[16:24]
    for frame in range(_WAL_HEADER, len(log) - _FRAME_HEADER - page_bytes + 1, _FRAME_HEADER + page_bytes):
        if log[frame + 8 : frame + 16] != salts:
            break
        if log[frame + 4 : frame + 8] != b"\x00\x00\x00\x00":
            end = frame + _FRAME_HEADER + page_bytes
    return end


def _check_consistent(ledger: Path) -> None:
    """Of another copy, as SQLite takes the log into the file when it closes it."""
    folder = ledger.parent / "looked-at"
    shutil.copytree(ledger.parent, folder)
    with closing(sqlite3.connect(folder / ledger.name)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        must(found == [("ok",)], f"the copy is damaged: {found}")
        must(not connection.execute("PRAGMA foreign_key_check").fetchall(), "the copy lacks rows")
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'counts'").fetchone():
            must(connection.execute(RECOUNT).fetchall() == connection.execute(KEPT).fetchall(), "counts are wrong")
    shutil.rmtree(folder)
