"""The messages of real runs between the sandbox's servers: once, in words, and at no cost to the run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from polyb2.clock import FAKE_NOW
from polyb2.core.errors import AccountStoppedError
from polyb2.core.selection import EVERYTHING, Selection, named_dates
from polyb2.engine import RunResult
from polyb2.notify import heartbeat, run_notifier, sender
from polyb2.sandbox import Answer, Fault
from tests.conftest import DAY_AGGS, Bench, key, until
from tests.notify.conftest import Mailbox

TUESDAY, WEDNESDAY = key("2024-01-02"), key("2024-01-03")
CHOSEN = named_dates(["2024-01-02..2024-01-03"], (DAY_AGGS,))


@pytest.fixture(autouse=True)
def _thursday_night(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the usual hour of Wednesday's files, and before that of Thursday's."""
    monkeypatch.setenv(FAKE_NOW, "2024-01-05T03:00:00Z")
    monkeypatch.setattr(run_notifier, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(heartbeat, "_PAUSE_S", 0.0)


async def sync(bench: Bench, mailbox: Mailbox, selection: Selection = CHOSEN, **more: Any) -> RunResult:
    return await bench.run(selection, polyb2_datasets=[DAY_AGGS], **(mailbox.settings | more))


@asynccontextmanager
async def watching(bench: Bench, mailbox: Mailbox) -> AsyncIterator[None]:
    running = asyncio.create_task(
        bench.run(
            None,
            watch=True,
            polyb2_datasets=[DAY_AGGS],
            polyb2_poll_interval=0.2,
            polyb2_part_tries=1,
            **mailbox.settings,
        )
    )
    try:
        yield
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await running


async def test_a_run_is_one_message_and_what_was_told_is_not_told_again(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.put(TUESDAY, b"x" * 1000)
    await sync(bench, mailbox)
    (message,) = mailbox.messages
    assert message["title"] == "polyb2: 1 file late, 1 day complete, run ended"
    lines = message["message"].splitlines()
    assert lines[:3] == [
        f"late: {DAY_AGGS} 2024-01-03",
        "complete: 2024-01-02 (1 datasets)",
        "1 files completed, 1.0 kB sent",
    ]
    assert mailbox.pings == [("GET", "/ping/t0ken", "")]
    await sync(bench, mailbox)  # another process, with nothing to do
    assert (len(mailbox.messages), len(mailbox.pings)) == (1, 2)


async def test_a_file_that_was_replaced_is_told(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.put(TUESDAY, b"x")
    bench.box.source.put(WEDNESDAY, b"y")
    await bench.run(CHOSEN)
    bench.box.source.put(TUESDAY, b"xx")
    await sync(bench, mailbox)
    (message,) = mailbox.messages
    assert f"revised at the source: {TUESDAY}" in message["message"].splitlines()


async def test_a_file_that_a_worker_found_replaced_is_told(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.put(TUESDAY, b"x")
    await bench.discover(CHOSEN)
    bench.box.source.put(TUESDAY, b"xx")
    await bench.run(None, polyb2_datasets=[DAY_AGGS], **mailbox.settings)
    assert bench.stored(TUESDAY) == b"xx"
    (message,) = mailbox.messages
    assert message["message"].splitlines().count(f"revised at the source: {TUESDAY}") == 1


async def test_files_that_failed_are_told_and_the_monitor_hears_of_them(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.put(TUESDAY, b"x")
    bench.box.source.put(WEDNESDAY, b"y")
    bench.box.target.inject(Fault("put", Answer(400, "InvalidRequest"), key=f"*{TUESDAY}", times=0))
    await sync(bench, mailbox)
    (message,) = mailbox.messages
    assert message["title"] == "polyb2: 1 file not completed, 1 day complete, run ended"
    assert message["message"].startswith(f"permanent_failure: {TUESDAY} (polyb2 files {TUESDAY} tells why)")
    assert mailbox.pings == [
        ("POST", "/ping/t0ken/fail", "1 files not completed: polyb2 files tells why"),
    ]


async def test_an_account_that_stops_everything_is_told_once_until_it_works_again(
    bench: Bench, mailbox: Mailbox
) -> None:
    bench.box.source.put(TUESDAY, b"x")
    bench.box.source.put(WEDNESDAY, b"y")
    for _ in range(2):
        bench.box.target.inject(Fault("put", Answer(403, "InvalidAccessKeyId"), times=0))
        for _ in range(2):
            with pytest.raises(AccountStoppedError):
                await sync(bench, mailbox)
        assert [ping_[1] for ping_ in mailbox.pings] == ["/ping/t0ken/fail"] * 2
        # A slow machine looks before the end, and reports the side that stopped in a message of its own.
        assert sum("run failed" in title for title in mailbox.titles) == 1
        assert all("check B2_KEY_ID" in message["message"] for message in mailbox.messages)
        bench.box.target.clear_faults()
        await sync(bench, mailbox)
        assert "run ended" in mailbox.titles[-1]
        mailbox.messages.clear()
        mailbox.pings.clear()
        bench.box.source.put(TUESDAY, b"another revision")


async def test_a_cap_under_a_watch_is_told_at_once_and_once(
    bench: Bench, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.hurry(probe_first_s=0.05)
    bench.box.source.put(TUESDAY, b"x")
    cap = Fault("put", Answer(403, "AccessDenied", "Cannot upload: storage cap exceeded. See Caps & Alerts"), times=0)
    bench.box.target.inject(cap)
    async with watching(bench, mailbox):
        await until(lambda: any("side stopped" in title for title in mailbox.titles))
        await until(lambda: ("POST", "/ping/t0ken/fail") in [ping_[:2] for ping_ in mailbox.pings])
    async with watching(bench, mailbox):  # a restart does not repeat it
        await until(lambda: cap.hits > 2 and len(mailbox.pings) > 3)
        assert sum("side stopped" in title for title in mailbox.titles) == 1
        bench.box.target.clear_faults()
        await until(lambda: any("complete: 2024-01-02" in message["message"] for message in mailbox.messages))
        await until(lambda: mailbox.pings[-1][0] == "GET")


async def test_of_two_watches_on_a_ledger_one_tells_what_both_found(bench: Bench, mailbox: Mailbox) -> None:
    bench.hurry(round_poll_s=0.05)
    bench.box.source.put(TUESDAY, b"x")
    await bench.mirror_all()
    mailbox.answers.clear()
    given = {"polyb2_datasets": [DAY_AGGS], "polyb2_poll_interval": 0.2, **mailbox.settings}
    running = [asyncio.create_task(bench.run(None, watch=True, **given)) for _ in range(2)]
    try:
        # One of them waits for the answer to its message; the other has passed that step once its ping is there.
        await until(lambda: bool(mailbox.messages) and bool(mailbox.pings))
        mailbox.answers.set()
        await until(lambda: len(mailbox.pings) > 6)
    finally:
        for task in reversed(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    (message,) = mailbox.messages
    assert f"late: {DAY_AGGS} 2024-01-03" in message["message"].splitlines()


async def test_a_discovery_that_fails_is_what_the_monitor_hears(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.inject(Fault("list", Answer(500, "InternalError"), times=0))
    async with watching(bench, mailbox):
        await until(lambda: bool(mailbox.pings))
    assert mailbox.pings[0][1] == "/ping/t0ken/fail"
    assert mailbox.pings[0][2].startswith("discovery: source: ")


async def test_a_message_that_was_not_taken_is_sent_with_the_next(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.put(TUESDAY, b"x")
    mailbox.status = 500
    await sync(bench, mailbox)
    mailbox.status = 200
    mailbox.messages.clear()
    await sync(bench, mailbox)
    assert mailbox.titles == ["polyb2: 1 file late, 1 day complete"]


async def test_telling_that_fails_hurts_no_transfer(
    bench: Bench, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(run_notifier, "FINAL_S", 0.5)
    mailbox.answers.clear()
    bench.box.source.put(TUESDAY, b"x")
    result = await sync(bench, mailbox, polyb2_ping_url="http://127.0.0.1:1/")
    assert (result.outcome.completed, result.outcome.unfinished) == (1, {})
    bench.assert_mirrored(TUESDAY)
    mailbox.answers.set()


async def test_a_monitor_that_never_answers_is_not_in_the_figures(
    bench: Bench, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "TIMEOUT_S", 2.0)
    mailbox.answers.clear()
    bench.box.source.put(TUESDAY, b"x")
    began_s = time.monotonic()
    result = await sync(bench, mailbox, polyb2_notify_urls=[])
    took_s = time.monotonic() - began_s
    assert mailbox.pings
    assert 0 < result.seconds < took_s - 1.9
    mailbox.answers.set()


async def test_no_secret_of_the_settings_is_in_a_message(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.put(TUESDAY, b"x")
    bench.box.target.inject(Fault("put", Answer(403, "SignatureDoesNotMatch"), times=0))
    with pytest.raises(AccountStoppedError):
        await sync(bench, mailbox)
    settings = bench.configured()
    for secret in (settings.source.secret_access_key, settings.target.application_key):
        assert secret is not None
        assert secret.get_secret_value() not in f"{mailbox.messages}{mailbox.pings}"


async def test_the_differences_that_verify_finds_are_told_until_it_finds_none(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.put(TUESDAY, b"x")
    await bench.run(EVERYTHING)
    environment = {"POLYB2_NOTIFY_URLS": mailbox.url}
    good = bench.box.target.current(TUESDAY)
    assert good is not None
    for _ in range(2):
        await bench.box.target.store(TUESDAY, b"another size")
        for _ in range(2):
            assert (await bench.cli("verify", **environment)).code == 3
        assert mailbox.titles == ["polyb2: 1 difference found"]
        assert mailbox.messages[0]["message"].startswith(f"verify: size {TUESDAY}")
        await bench.box.target.store(TUESDAY, b"x", good.metadata)
        assert (await bench.cli("verify", **environment)).code == 0
        mailbox.messages.clear()


async def test_discover_tells_what_was_replaced(bench: Bench, mailbox: Mailbox) -> None:
    bench.box.source.put(TUESDAY, b"x")
    await bench.run(EVERYTHING)
    bench.box.source.put(TUESDAY, b"xx")
    words = ("discover", "--dates", "2024-01-02", "--dataset", DAY_AGGS)
    assert (await bench.cli(*words, POLYB2_NOTIFY_URLS=mailbox.url)).code == 0
    assert mailbox.titles == ["polyb2: 1 file revised"]


async def test_a_url_that_fails_is_a_line_and_no_exit_code(bench: Bench) -> None:
    bench.box.source.put(TUESDAY, b"x")
    words = ("sync", "--dates", "2024-01-02", "--dataset", DAY_AGGS)
    ended = await bench.cli(*words, POLYB2_NOTIFY_URLS="nothing://t0ken", POLYB2_PING_URL="http://127.0.0.1:1/t0ken")
    assert ended.code == 0
    warnings = [line for line in ended.err.splitlines() if "WARNING" in line]
    assert ["nothing://..." in warnings[0], "POLYB2_PING_URL" in warnings[1], len(warnings)] == [True, True, 2]
    assert "t0ken" not in ended.err + ended.out


async def test_a_stop_does_not_wait_for_a_service_that_keeps_silent(
    bench: Bench, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_notifier, "STOPPING_S", 0.2)
    bench.box.source.put(TUESDAY, b"x")
    bench.box.source.put(WEDNESDAY, b"y")
    mailbox.answers.clear()
    async with watching(bench, mailbox):
        await until(lambda: bool(mailbox.messages))
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 2.5
