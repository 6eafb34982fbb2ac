"""Complete and its possible outcomes, on protocols and in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import pytest

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.retry import TIMING
from polyb2.flow.mirror import DrainedError
from polyb2.flow.transfer.publish import publish
from tests.flow.transfer.scene import SIZE, Bucket, Scene, lost, made_by
from tests.virtual import play


def test_noted_before_it_is_sent() -> None:
    async def act() -> None:
        scene = Scene()
        attempt = await scene.attempt()
        assert await publish(attempt) == made_by("a token")
        assert scene.bucket.order == ["completing", "complete", "head"]

    play(act())


@pytest.mark.parametrize("kind", [Kind.CONNECTION_LOST, Kind.STALLED, Kind.SERVER_ERROR, Kind.NO_SUCH_UPLOAD])
def test_a_lost_answer_is_settled_by_looking_and_never_by_a_second_complete(kind: Kind) -> None:
    async def act() -> None:
        scene = Scene()
        scene.bucket.answers, scene.bucket.takes_effect, scene.bucket.unseen = deque([lost(kind)]), True, 3
        assert (await publish(await scene.attempt())).stamp.token == "a token"
        assert scene.bucket.asked["complete"] == 1

    play(act())


def test_sent_again_only_while_the_upload_is_open() -> None:
    async def act() -> None:
        scene = Scene()
        scene.bucket.answers = deque([lost(), lost(), None])
        await publish(await scene.attempt())
        assert (scene.bucket.asked["complete"], scene.bucket.asked["list_parts"]) == (3, 2)

    play(act())


@pytest.mark.parametrize("kind", [Kind.KEYS_REFUSED, Kind.CAP_EXCEEDED])
def test_what_no_second_try_cures_is_raised_at_once(kind: Kind) -> None:
    async def act() -> None:
        scene = Scene()
        scene.bucket.answers = deque([lost(kind)])
        with pytest.raises(RemoteError) as raised:
            await publish(await scene.attempt())
        assert (raised.value.kind, scene.bucket.asked["head"]) == (kind, 0)

    play(act())


@pytest.mark.parametrize(
    "other",
    [made_by("of another attempt"), made_by("a token", size=SIZE - 1)],
    ids=["another token", "another size"],
)
def test_an_object_that_is_not_ours_is_not_taken_for_published(other: object) -> None:
    async def act() -> None:
        scene = Scene()
        attempt = await scene.attempt()

        class Older(Bucket):
            async def head(self, dest_key: str) -> object:  # type: ignore[override]
                del dest_key
                self.asked["head"] += 1
                return other

        scene.mirror.target = Older(answers=deque([lost(Kind.NO_SUCH_UPLOAD)]), uploads=set())  # type: ignore[assignment]
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(RemoteError, match="no object of ours appeared") as raised:
            await publish(attempt)
        assert raised.value.kind is Kind.NO_SUCH_UPLOAD
        assert asyncio.get_running_loop().time() - began_s <= TIMING.publish_limit_s

    play(act())


def test_a_long_wait_is_logged_once_and_ends_with_the_process(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        scene = Scene()
        scene.bucket.unseen = 10**6
        asyncio.get_running_loop().call_later(60, scene.mirror.draining.set)
        with pytest.raises(DrainedError):
            await publish(await scene.attempt())

    with caplog.at_level(logging.INFO):
        play(act())
    (line,) = caplog.records
    assert "all bytes are stored and the target took the Complete" in line.message
    assert "for up to 5m00s" in line.message
