"""Uploads that are given up, on protocols: no order of events loses one."""

from __future__ import annotations

import pytest

from polyb2.core.errors import RemoteError
from polyb2.flow.transfer.leftovers import abort_all_abandoned, abort_orphans
from tests.flow.transfer.scene import KEY, UPLOAD, Scene
from tests.virtual import play


def test_noted_then_aborted_then_confirmed_then_forgotten() -> None:
    async def act() -> None:
        scene = Scene()
        attempt = await scene.attempt()
        await attempt.give_up()
        assert scene.books.written == ["abandoned", "forgotten"]
        assert scene.bucket.asked == {"abort": 1, "list_parts": 1}
        assert attempt.upload is None

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
