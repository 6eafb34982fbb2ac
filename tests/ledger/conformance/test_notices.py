"""What was noted is remembered over a restart, may be forgotten by its standing, and is not kept for ever."""

from __future__ import annotations

from polyb2.ledger.open import open_ledger
from polyb2.ledger.verbs.facts import NOTICES_KEPT_MS
from tests.ledger.conftest import SetClock
from tests.ledger.places import Place


async def test_what_was_noted_is_remembered_over_a_restart(place: Place) -> None:
    names = ["late a/b 2024-01-02", "stopped target cap", "stopped source keys"]
    for new in (set(names), set()):
        ledger = await open_ledger(place.url, SetClock())
        assert await ledger.new_notices(names) == new
        await ledger.note_notices(names)
        await ledger.close()


async def test_what_is_over_is_forgotten_and_nothing_else(place: Place) -> None:
    ledger = await open_ledger(place.url, SetClock())
    names = ["stopped", "stopped source keys", "stopped target cap", "stoppee", "stopped\u00ff"]
    await ledger.note_notices(names)
    await ledger.forget_notices("stopped ")
    assert await ledger.new_notices(names) == {"stopped source keys", "stopped target cap"}
    await ledger.close()


async def test_what_was_noted_long_ago_is_let_go(place: Place) -> None:
    clock = SetClock()
    ledger = await open_ledger(place.url, clock)
    await ledger.note_notices(["old"])
    clock.step(NOTICES_KEPT_MS / 1000)
    await ledger.note_notices(["new"])
    assert await ledger.new_notices(["old", "new"]) == set()
    clock.step(0.001)
    await ledger.note_notices(["newest"])
    assert await ledger.new_notices(["old", "new", "newest"]) == {"old"}
    await ledger.close()
