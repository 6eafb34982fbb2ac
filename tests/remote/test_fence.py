"""All guards of every request, not the fence alone: the lease's fence, the turn, the slot, and what its answer teaches."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import pytest

from polyb2.core.errors import Kind, LeaseLostError, RemoteError, Side
from polyb2.core.parts import Part
from polyb2.core.rate_limit import RateLimiter
from polyb2.core.records import Revision
from polyb2.core.retry import RequestPolicy
from polyb2.core.stamp import Stamp
from polyb2.remote.guard import Guard
from polyb2.remote.limiter import Bandwidth, Limiter, Turn
from polyb2.remote.relay import Relay
from polyb2.sandbox import Answer, Fault, Sandbox
from tests.conftest import key
from tests.remote.conftest import Stores

KEY, BODY = key("2024-01-02"), b"some bytes"
MD5 = hashlib.md5(BODY).hexdigest()
REVISION, PART = Revision(1, MD5, len(BODY), 0), Part(1, 0, len(BODY))


async def _list(stores: Stores) -> None:
    assert [page async for page in stores.source.pages("")]


async def _read(stores: Stores) -> None:
    async with stores.source.read(KEY, REVISION, None) as incoming:
        await Relay(incoming, len(BODY), Bandwidth()).drain()


async def _put(stores: Stores) -> None:
    await stores.target.put(KEY, BODY, len(BODY), MD5, Stamp(), fresh=False)


async def _head(stores: Stores) -> None:
    await stores.target.head(KEY)


async def _pass_on(stores: Stores) -> None:
    async with stores.source.read(KEY, REVISION, None, onward=stores.target.bucket) as incoming:
        await stores.target.put(KEY, Relay(incoming, len(BODY), Bandwidth()), len(BODY), MD5, Stamp(), fresh=False)


KINDS = [_list, _read, _put, _head]


def _lost() -> None:
    raise LeaseLostError("gone")


# -- the fence ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_of", [*KINDS, _pass_on])
async def test_no_request_is_sent_under_a_refusing_fence(
    once: Stores, box: Sandbox, request_of: Callable[[Stores], Awaitable[None]]
) -> None:
    box.source.put(KEY, BODY)
    with pytest.raises(LeaseLostError):
        await request_of(once.fenced(_lost))
    assert (box.source.count(), box.target.count()) == (0, 0)
    await request_of(once)


async def test_a_lease_that_is_lost_under_a_read_lets_no_put_follow(once: Stores, box: Sandbox) -> None:
    box.source.put(KEY, BODY)
    asked = iter([None])

    def lost_after_one() -> None:
        if next(asked, asked) is asked:
            _lost()

    with pytest.raises(LeaseLostError):
        await _pass_on(once.fenced(lost_after_one))
    assert (box.source.count("get"), box.target.count()) == (1, 0)


async def test_each_try_asks_the_fence() -> None:
    guard, tries = Guard(Side.SOURCE, RequestPolicy(tries=5, first_s=0.001), 0, 1), []

    async def failing() -> None:
        tries.append(1)
        raise ConnectionResetError

    def lost_after_two() -> None:
        if len(tries) == 2:
            _lost()

    with pytest.raises(LeaseLostError):
        await guard.fenced(lost_after_two).call("list", failing)
    assert len(tries) == 2


# -- turns and slots --------------------------------------------------------------------------------------------------------


class Turns(Limiter):
    """Counts the turns that were asked for, and gives each at once."""

    count = 0

    async def wait(self) -> Turn:
        self.count += 1
        return Turn(self, self._rates.start(0.0))


@pytest.fixture
def turns(once: Stores) -> tuple[Turns, Turns]:
    ours, theirs = Turns(0), Turns(0)
    once.source.guard._limiter, once.target.guard._limiter = ours, theirs
    return ours, theirs


@pytest.mark.parametrize("request_of", KINDS)
async def test_every_kind_of_request_waits_for_its_turn(
    once: Stores, box: Sandbox, turns: tuple[Turns, Turns], request_of: Callable[[Stores], Awaitable[None]]
) -> None:
    box.source.put(KEY, BODY)
    await request_of(once)
    counted = tuple(side.count for side in turns)
    assert counted == (len(box.source.requests), len(box.target.requests))
    assert sum(counted) == 1


async def test_what_is_passed_on_waits_for_the_turn_of_both_sides_before_it_is_read(
    once: Stores, box: Sandbox, turns: tuple[Turns, Turns]
) -> None:
    """One turn a side: the body does not stand in a buffer while its PUT waits."""
    box.source.put(KEY, BODY)
    async with once.source.read(KEY, REVISION, None, onward=once.target.bucket) as incoming:
        assert [side.count for side in turns] == [1, 1]
        await once.target.put(KEY, Relay(incoming, len(BODY), Bandwidth()), len(BODY), MD5, Stamp(), fresh=False)
    assert [side.count for side in turns] == [1, 1]


async def test_control_calls_at_once_are_bounded() -> None:
    guard, most, now = Guard(Side.SOURCE, RequestPolicy(), 0, 5, slots=2), 0, 0
    guard._limiter = Turns(0)

    async def request() -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    await asyncio.gather(*(guard.call("list", request) for _ in range(20)))
    assert most == 2


# -- what an answer teaches -------------------------------------------------------------------------------------------------


class Learned(RateLimiter):
    """Keeps what it was told of answers."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[bool] = []

    def answered(self, now_s: float, ticket: object, *, refused: bool) -> None:
        self.refused.append(refused)


@pytest.mark.parametrize("request_of", KINDS)
@pytest.mark.parametrize("is_refused", [True, False], ids=["refused", "accepted"])
async def test_each_answer_is_judged_once(
    once: Stores, box: Sandbox, request_of: Callable[[Stores], Awaitable[None]], is_refused: bool
) -> None:
    box.source.put(KEY, BODY)
    await box.target.store(KEY, BODY)
    learned = Learned()
    for side, server in ((once.source, box.source), (once.target, box.target)):
        side.guard._limiter._rates = learned
        if is_refused:
            server.inject(Fault("*", Answer(503, "SlowDown")))
    if is_refused:
        with pytest.raises(RemoteError) as caught:
            await request_of(once)
        assert caught.value.kind in {Kind.THROTTLED, Kind.SERVER_ERROR}
    else:
        await request_of(once)
    assert learned.refused == [is_refused]
