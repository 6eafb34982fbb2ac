"""Rate limit, time-outs and retries of requests, without a server."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from polyb2.core.errors import Kind, LeaseLostError, RemoteError, Side
from polyb2.core.retry import RequestPolicy
from polyb2.core.schedule import parse_schedule
from polyb2.meters import Meters
from polyb2.remote.guard import Guard
from polyb2.remote.limiter import Bandwidth, Limiter
from polyb2.remote.retries import Tries
from polyb2.remote.traffic import Traffic

POLICY = RequestPolicy(tries=3, first_s=0.001)
MANY = RequestPolicy(tries=10, first_s=0.001)


class Moving(Traffic):
    """Bodies in transfer."""

    @property
    def passed_bytes(self) -> int:
        return time.monotonic_ns()


async def test_a_limiter_spaces_requests_evenly() -> None:
    loop = asyncio.get_running_loop()
    limiter, began_s = Limiter(100), loop.time()
    await asyncio.gather(*(limiter.wait() for _ in range(12)))
    # A timer that fires late is made up for by one request at the most.
    assert loop.time() - began_s >= 0.09


async def test_who_is_cancelled_in_line_takes_nobodys_turn() -> None:
    loop = asyncio.get_running_loop()
    limiter, began_s = Limiter(10), loop.time()
    await limiter.wait()
    waiting = [asyncio.create_task(limiter.wait()) for _ in range(50)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await limiter.wait()
    assert loop.time() - began_s < 1


async def test_a_turn_that_comes_sooner_is_taken_at_once_by_who_waits_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyb2.core.rate_limit.START", 0.1)
    monkeypatch.setattr("polyb2.core.rate_limit.SEARCH", 1000.0)
    loop = asyncio.get_running_loop()
    limiter = Limiter(0)
    await limiter.wait()
    turn = await limiter.wait()
    waiting = asyncio.create_task(limiter.wait())
    await asyncio.sleep(0)
    began_s = loop.time()
    assert not waiting.done()
    turn.accepted()
    await waiting
    assert loop.time() - began_s < 5


async def test_a_call_is_sent_twice_to_a_side_that_says_nothing_and_is_stalled_then() -> None:
    """A third time would be three stall time-outs for a waiting person."""
    tries = []

    async def never() -> None:
        tries.append(1)
        await asyncio.Event().wait()

    with pytest.raises(RemoteError) as raised:
        await Guard(Side.TARGET, MANY, 0, 0.05).call("list", never)
    assert (raised.value.kind, raised.value.side, len(tries)) == (Kind.STALLED, Side.TARGET, 2)


async def test_a_side_that_answers_something_else_meanwhile_is_not_silent() -> None:
    guard, tries = Guard(Side.TARGET, POLICY, 0, 0.05), []

    async def other() -> None:
        return None

    async def never() -> None:
        tries.append(1)
        await guard.call("head", other)
        await asyncio.Event().wait()

    with pytest.raises(RemoteError):
        await guard.call("list", never)
    assert len(tries) == POLICY.tries


async def test_a_side_whose_bodies_move_is_slow_and_not_silent() -> None:
    traffic, tries = Moving(), []

    async def never() -> None:
        tries.append(1)
        await asyncio.Event().wait()

    with pytest.raises(RemoteError):
        await Guard(Side.TARGET, POLICY, 0, 0.05, traffic=traffic).call("list", never)
    assert len(tries) == POLICY.tries


@pytest.mark.parametrize("before", [True, False], ids=["answered before", "never answered"])
async def test_who_only_hangs_up_is_not_known_to_be_the_service(before: bool) -> None:
    guard, tries = Guard(Side.SOURCE, MANY, 0, 1), []

    async def well() -> None:
        return None

    async def hung_up() -> None:
        tries.append(1)
        raise aiohttp.ServerDisconnectedError

    if before:
        await guard.call("list", well)
    with pytest.raises(RemoteError) as raised:
        await guard.call("list", hung_up)
    expected = (Kind.CONNECTION_LOST, MANY.tries) if before else (Kind.UNREACHABLE, 3)
    assert (raised.value.kind, len(tries)) == expected
    assert before or "http:// or https://" in str(raised.value)


async def test_a_long_wait_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A request beside the first, or after it, waits for the same reason."""
    meters = Meters()
    busy = RemoteError(Side.SOURCE, Kind.THROTTLED, "list was answered 503: slow down", retry_after_s=100)
    for _ in range(3):
        tries = Tries(MANY, meters)
        assert [tries.delay_s(busy) for _ in range(3)] == [100, 100, 100]
    assert [record.getMessage() for record in caplog.records] == [
        "waiting for the source, next try in 1m40s: list was answered 503: slow down"
    ]


async def test_a_short_wait_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    tries = Tries(MANY, Meters())
    for _ in range(5):
        tries.delay_s(RemoteError(Side.SOURCE, Kind.SERVER_ERROR, "list was answered 500", retry_after_s=1))
    assert not caplog.records


async def test_waiting_for_a_turn_is_no_stall() -> None:
    guard = Guard(Side.SOURCE, POLICY, 20, 0.02)

    async def answered() -> int:
        return 1

    assert sum(await asyncio.gather(*(guard.call("list", answered) for _ in range(5)))) == 5


async def test_a_worker_without_its_lease_starts_no_request() -> None:
    guard, tries = Guard(Side.SOURCE, POLICY, 0, 1), []

    def lost() -> None:
        raise LeaseLostError("gone")

    async def request() -> None:
        tries.append(1)

    with pytest.raises(LeaseLostError):
        await guard.fenced(lost).call("list", request)
    assert tries == []
    await guard.call("list", request)
    assert tries == [1]


async def test_a_foreign_error_is_not_kept_with_its_signed_url() -> None:
    guard = Guard(Side.SOURCE, RequestPolicy(tries=1), 0, 1)

    async def request() -> None:
        raise OSError(101, "cannot reach https://h/k?X-Amz-Signature=secret")

    with pytest.raises(RemoteError) as raised:
        await guard.call("list", request)
    assert "secret" not in str(raised.value)
    assert (raised.value.__cause__, raised.value.__suppress_context__) == (None, True)


class Hands:
    """The hands of a clock, which a test moves."""

    minute = 0

    def __call__(self) -> int:
        return self.minute


async def test_a_limit_spaces_bytes() -> None:
    bandwidth = Bandwidth(parse_schedule("1M"), Hands())
    assert bandwidth.book(100_000) <= 1000
    assert bandwidth.book(1_000_000) == pytest.approx(1_000_000, abs=50_000)
    began_s = time.monotonic()
    await bandwidth.rest(100_000)
    assert 0.09 <= time.monotonic() - began_s < 0.5


async def test_no_limit_makes_nobody_wait() -> None:
    bandwidth = Bandwidth(parse_schedule("0"), Hands())
    assert [bandwidth.book(10**12) for _ in range(3)] == [0, 0, 0]


async def test_the_limit_follows_the_clock_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bandwidth, "LOOK_EVERY_S", 0.0)
    hands = Hands()
    bandwidth = Bandwidth(parse_schedule("08:00-18:00=1M,18:00-19:00=10M,*=0"), hands)
    assert (bandwidth.book(10**9), bandwidth.words) == (0, "no limit until 08:00")
    hands.minute = 8 * 60
    assert bandwidth.book(10_000_000) == pytest.approx(10_000_000, abs=200_000)
    rest = asyncio.create_task(bandwidth.rest(1_000_000))
    await asyncio.sleep(0)
    began_s = time.monotonic()
    assert bandwidth.words == "limit 1.0 MB/s until 18:00"
    hands.minute = 18 * 60
    # What was booked, and who waits already, is paid for at the new rate.
    assert bandwidth.book(0) == pytest.approx(10_000_000, abs=200_000)
    await rest
    assert time.monotonic() - began_s < 0.5
    hands.minute = 19 * 60
    assert (bandwidth.book(10**9), bandwidth.per_second) == (0, None)


async def test_a_limit_that_never_changes_does_not_read_the_clock() -> None:
    looked = []

    def look() -> int:
        looked.append(1)
        return 0

    bandwidth = Bandwidth(parse_schedule("1G"), look)
    looked.clear()
    for _ in range(100):
        bandwidth.book(1)
    assert looked == []
