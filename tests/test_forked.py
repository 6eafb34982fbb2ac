"""A forked process of polyb2 is as good as one of its own interpreter."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.conftest import Bench, key
from tests.faults.runners import stands_still


async def test_it_has_its_own_command_line_folder_environment_and_code(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POLYB2_PART_SIZ=5MiB\n")
    shown, wrong = await asyncio.gather(bench.cli("status", "--json"), bench.cli("status", POLYB2_GIVE_UP="x"))
    assert (shown.code, shown.json()["totals"]["files"], wrong.code) == (0, 0, 2)
    assert "POLYB2_PART_SIZ in .env" in shown.err
    assert "POLYB2_GIVE_UP" in wrong.err
    assert (await bench.cli("status", "--quiet")).code == 0


async def test_it_stops_goes_on_and_dies_by_signals(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    await bench.discover()
    process = await bench.start("run", POLYB2_FAILPOINTS="ledger.claim.after=stop")
    assert await stands_still(process)
    process.send_signal(signal.SIGCONT)
    assert await process.wait() == 0
    assert (await bench.cli("run", "--watch", POLYB2_FAILPOINTS="ledger.register.after=kill")).code == -signal.SIGKILL
    process = await bench.start("run", "--watch", LOG_LEVEL="INFO")
    assert process.stderr is not None
    await process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0
