"""Uploads that are given up, on protocols: no order of events loses one."""

from __future__ import annotations

import pytest

from polyb2.core.errors import LedgerError, RemoteError
from polyb2.flow.transfer.leftovers import abort_all_abandoned, abort_orphans
from tests.flow.transfer.scene import KEY, PLAN, SIZE, UPLOAD, Scene
from tests.virtual import play


def test_noted_then_aborted_then_confirmed_then_forgotten() -> None:
    async def act() -> None:
        scene = Scene()
        attempt = await scene.attempt()
        await attempt.give_up()
        assert scene.bucket.order == ["abandoned", "abort", "list_parts", "forgotten"]
        assert (attempt.upload, attempt.receipts) == (None, {})

    play(act())


def test_an_abort_without_effect_is_not_forgotten() -> None:
    async def act() -> None:
        scene = Scene()
        scene.bucket.survives = 1
        with pytest.raises(RemoteError, match="still there after its abort"):
            await (await scene.attempt()).give_up()
        assert scene.books.abandoned == [UPLOAD]
        assert await abort_all_abandoned(scene.mirror) == 0
        assert scene.books.abandoned == []

    play(act())


def test_a_sweep_counts_what_it_could_not_abort() -> None:
    async def act() -> None:
        scene = Scene()
        scene.books.abandoned.append(UPLOAD)
        scene.bucket.survives = 1
        assert await abort_all_abandoned(scene.mirror) == 1

    play(act())


@pytest.mark.parametrize(("own", "left"), [(None, set()), (UPLOAD.upload_id, {UPLOAD.upload_id})])
def test_of_a_key_all_uploads_but_our_own_are_aborted_and_none_of_a_longer_key(own: str | None, left: set[str]) -> None:
    async def act() -> None:
        scene = Scene()
        scene.bucket.uploads.add("of a lost Create")
        await abort_orphans(scene.mirror, KEY, own)
        assert scene.bucket.uploads == left
        assert scene.bucket.asked["abort"] == 2 - len(left)

    play(act())


def test_what_is_known_of_the_part_etags_is_in_the_ledger_before_anything_relies_on_it() -> None:
    async def act() -> None:
        scene = Scene()
        etags, scene.books.is_broken = scene.mirror.part_etags, True
        with pytest.raises(LedgerError):
            await etags.note(are_opaque=True)
        seen = [etags.are_opaque]
        scene.books.is_broken = False
        for _ in range(2):
            await etags.note(are_opaque=True)
        assert [*seen, etags.are_opaque] == [False, True]
        assert scene.books.written == ["target_part_etags: opaque"]

    play(act())


def test_parts_that_are_sent_again_cost_progress_and_not_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is by what this attempt sent, of which only what is found wrong is taken back."""

    async def nothing(_attempt: object, *, hash_all: bool) -> None:
        assert hash_all

    async def act() -> None:
        monkeypatch.setattr("polyb2.flow.transfer.attempt.send_missing", nothing)
        attempt = await Scene().attempt()
        progress = attempt.progress
        progress.settled_bytes = SIZE
        await attempt.send_again([2])
        assert (progress.kept_bytes, progress.settled_bytes) == (0, SIZE - PLAN.part(2).length)

    play(act())
