"""What was told is remembered over a restart, may be forgotten by its standing, and is not kept for ever."""

from __future__ import annotations

from pathlib import Path

from polyb2.clock import Clock, Moment
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.told import KEPT_MS


class At(Clock):
    """A clock that a test sets."""

    wall = 10**12

    def now(self) -> Moment:
        return Moment(self.wall, 0, "boot")


async def test_what_was_told_is_remembered_over_a_restart(tmp_path: Path) -> None:
    names = ["late a/b 2024-01-02", "stopped target cap", "stopped source keys"]
    for untold in (set(names), set()):
        ledger = await Ledger.open(tmp_path / "ledger.db", At())
        assert await ledger.untold(names) == untold
        await ledger.note_told(names)
        await ledger.close()


async def test_what_is_over_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "ledger.db", At())
    names = ["stopped", "stopped source keys", "stopped target cap", "stoppee", "stopped\u00ff"]
    await ledger.note_told(names)
    await ledger.forget_told("stopped ")
    assert await ledger.untold(names) == {"stopped source keys", "stopped target cap"}
    await ledger.close()


async def test_what_was_told_long_ago_is_let_go(tmp_path: Path) -> None:
    clock = At()
    ledger = await Ledger.open(tmp_path / "ledger.db", clock)
    await ledger.note_told(["old"])
    clock.wall += KEPT_MS
    await ledger.note_told(["new"])
    assert await ledger.untold(["old", "new"]) == set()
    clock.wall += 1
    await ledger.note_told(["newest"])
    assert await ledger.untold(["old", "new", "newest"]) == {"old"}
    await ledger.close()
