"""What was noted is remembered over a restart, may be forgotten by its standing, and is not kept for ever."""

from __future__ import annotations

import asyncio

from polyb2.ledger.open import open_ledger
from polyb2.ledger.verbs.facts import NOTICES_KEPT_MS, SENDING_MS
from tests.ledger.places import Place, SetClock


async def test_what_was_noted_is_remembered_over_a_restart(place: Place, clock: SetClock) -> None:
    names = ["late a/b 2024-01-02", "stopped target cap", "stopped source keys"]
    for new in (set(names), set()):
        ledger = await open_ledger(place.url, clock)
        assert await ledger.new_notices(names, "me") == new
        await ledger.note_notices(names)
        await ledger.close()


async def test_what_is_over_is_forgotten_and_nothing_else(place: Place, clock: SetClock) -> None:
    ledger = await open_ledger(place.url, clock)
    names = ["stopped", "stopped source keys", "stopped target cap", "stoppee", "stopped\u00ff"]
    await ledger.note_notices(names)
    await ledger.forget_notices("stopped ")
    assert await ledger.new_notices(names, "me") == {"stopped source keys", "stopped target cap"}
    await ledger.close()


async def test_what_was_noted_long_ago_is_let_go(place: Place, clock: SetClock) -> None:
    ledger = await open_ledger(place.url, clock)
    await ledger.note_notices(["old"])
    clock.go_on(NOTICES_KEPT_MS / 1000)
    await ledger.note_notices(["new"])
    assert await ledger.new_notices(["old", "new"], "me") == set()
    clock.go_on(0.001)
    await ledger.note_notices(["newest"])
    assert await ledger.new_notices(["old", "new", "newest"], "me") == {"old"}
    await ledger.close()


async def test_a_notice_is_one_senders_until_it_is_noted_or_released(place: Place, clock: SetClock) -> None:
    ledger = await open_ledger(place.url, clock)
    assert await ledger.claim_notices({"a", "b", "c"}, "me") == {"a", "b", "c"}
    assert await ledger.new_notices({"a", "b", "c", "d"}, "you") == {"d"}
    assert await ledger.claim_notices({"a", "b", "c", "d"}, "you") == {"d"}
    assert await ledger.claim_notices({"a"}, "me") == {"a"}
    await ledger.note_notices({"a"})
    await ledger.release_notices({"a", "b", "d"}, "me")
    assert await ledger.claim_notices({"a", "b", "c", "d"}, "you") == {"b", "d"}
    await ledger.close()


async def test_a_notice_whose_sender_died_is_sent_by_another(place: Place, clock: SetClock) -> None:
    ledger = await open_ledger(place.url, clock)
    await ledger.claim_notices({"a"}, "me")
    clock.go_on(SENDING_MS / 1000)
    assert await ledger.claim_notices({"a"}, "you") == set()
    clock.go_on(0.001)
    assert await ledger.new_notices({"a"}, "you") == {"a"}
    assert await ledger.claim_notices({"a"}, "you") == {"a"}
    await ledger.release_notices({"a"}, "me")
    assert await ledger.claim_notices({"a"}, "a third") == set()
    await ledger.close()


async def test_of_eight_that_found_the_same_one_sends_it(place: Place, clock: SetClock) -> None:
    ledgers = [await open_ledger(place.url, clock) for _ in range(8)]
    names = {f"late a/b 2024-01-{day:02}" for day in range(1, 11)}
    claimed = await asyncio.gather(*(ledger.claim_notices(names, str(index)) for index, ledger in enumerate(ledgers)))
    assert sorted(name for one in claimed for name in one) == sorted(names)
    for ledger in ledgers:
        await ledger.close()
