"""Messages and pings over a real connection: their content, the report of a failure, and their time limit."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from polyb2.core.news import Digest
from polyb2.notify import heartbeat, sender
from polyb2.notify.heartbeat import Heartbeat, failure_url
from polyb2.notify.sender import AppriseSender, shown
from tests.notify.conftest import Mailbox

HELLO = Digest("polyb2: 1 day complete", "complete: 2024-01-02\n\nbucket on host")


async def test_a_message_arrives(mailbox: Mailbox) -> None:
    assert await AppriseSender([mailbox.url]).send(HELLO)
    (message,) = mailbox.messages
    assert (message["title"], message["message"]) == (HELLO.title, HELLO.body)


async def test_what_goes_wrong_with_a_url_is_said_once_and_never_shows_it(
    mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    mailbox.status = 500
    sender_ = AppriseSender([mailbox.url])
    assert [await sender_.send(HELLO) for _ in range(3)] == [False] * 3
    (record,) = caplog.records
    assert record.getMessage().startswith("no notification to json://...: the service did not accept it")
    mailbox.status = 200
    assert await sender_.send(HELLO)
    mailbox.status = 500
    assert not await sender_.send(HELLO)
    assert len(caplog.records) == 2
    assert "t0ken" not in caplog.text


async def test_one_url_that_works_is_enough(mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    assert await AppriseSender(["slack://nonsense", "t0ken", mailbox.url]).send(HELLO)
    assert len(mailbox.messages) == 1
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(":", 1)[0] for line in said] == ["no notification to slack", "no notification to ..."]
    assert "t0ken" not in caplog.text


async def test_a_service_that_keeps_silent_is_not_waited_for(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "TIMEOUT_S", 0.2)
    mailbox.answers.clear()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert not await AppriseSender([mailbox.url]).send(HELLO)
    assert loop.time() - began_s < 2
    assert "no answer within" in caplog.text
    mailbox.answers.set()


async def test_without_the_extra_it_says_what_to_install(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    sender_ = AppriseSender([mailbox.url])
    await sender_.check()
    assert "in the checkout: pip install --no-deps --require-hashes -r requirements/notify.txt" in caplog.text
    assert not await sender_.send(HELLO)
    assert len(caplog.records) == 1


async def test_urls_are_checked_before_there_is_anything_to_send(
    mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    await AppriseSender([mailbox.url, "nothing://t0ken"]).check()
    (record,) = caplog.records
    assert record.getMessage().startswith("no notification to nothing://...: it is not a URL of apprise")
    assert mailbox.messages == []


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("slack://a/b/c", "slack://..."),
        ("json+s://u:p@h", "json+s://..."),
        ("t0ken", "..."),
        ("t0ken@x://y", "..."),
        ("", "..."),
    ],
)
def test_only_the_scheme_of_a_url_is_shown(url: str, seen: str) -> None:
    assert shown(url) == seen


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_neither_follows_a_redirect_nor_sends_a_login_of_netrc(
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cr3t\ndefault login me password s3cr3t\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(heartbeat, "_PAUSE_S", 0.0)
    mailbox.status, mailbox.elsewhere = status, f"http://127.0.0.1:{mailbox.port}/ping/elsewhere"
    assert not await Heartbeat(mailbox.ping_url).ping("a problem")
    assert not await AppriseSender([mailbox.url]).send(HELLO)
    assert {path for _, path, _ in mailbox.pings} == {"/ping/t0ken/fail"}
    assert len(mailbox.messages) == 1
    assert mailbox.logins == []
    assert f"it answered {status}; check the URL" in caplog.text


async def test_a_login_that_the_ping_url_itself_has_is_sent(mailbox: Mailbox) -> None:
    assert await Heartbeat(mailbox.ping_url.replace("http://", "http://me:pass@")).ping(None)
    assert mailbox.logins == ["Basic bWU6cGFzcw=="]


async def test_a_monitor_that_accepts_and_never_answers_is_waited_for_once_and_not_for_long(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert heartbeat.TIMEOUT_S <= 5
    monkeypatch.setattr(heartbeat, "TIMEOUT_S", 0.2)
    mailbox.answers.clear()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert not await Heartbeat(mailbox.ping_url).ping(None)
    assert loop.time() - began_s < 2
    assert "was not reached: no answer within 0 s; check the URL" in caplog.text
    mailbox.answers.set()


async def test_a_proxy_that_cannot_be_used_is_said_and_nothing_is_sent(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "_PAUSE_S", 0.0)
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1")
    assert not await Heartbeat("https://hc.invalid/t0ken").ping(None)
    assert "https_proxy names a SOCKS proxy" in caplog.text


async def test_a_ping_after_what_went_well_and_what_did_not(mailbox: Mailbox) -> None:
    heartbeat_ = Heartbeat(mailbox.ping_url)
    assert await heartbeat_.ping(None)
    assert await heartbeat_.ping("source: keys refused, https://h/k?X-Amz-Signature=s3cr3t")
    (well, bad) = mailbox.pings
    assert well == ("GET", "/ping/t0ken", "")
    assert bad[:2] == ("POST", "/ping/t0ken/fail")
    assert bad[2].startswith("source: keys refused")
    assert "s3cr3t" not in bad[2]


async def test_a_monitor_that_is_away_is_said_once_without_its_url(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "_PAUSE_S", 0.0)
    mailbox.status = 404
    heartbeat_ = Heartbeat(mailbox.ping_url)
    assert [await heartbeat_.ping(None) for _ in range(2)] == [False, False]
    assert len(mailbox.pings) == 2 * heartbeat.TRIES
    assert not await Heartbeat("http://127.0.0.1:1/t0ken").ping(None)
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "it answered 404; check the URL",
        "no answer (ClientConnectorError); check the URL",
    ]
    assert "t0ken" not in caplog.text


@pytest.mark.parametrize(
    ("url", "fails"),
    [
        ("https://hc-ping.com/uuid", "https://hc-ping.com/uuid/fail"),
        ("https://hc-ping.com/uuid/", "https://hc-ping.com/uuid/fail"),
        ("https://h/a?b=c", "https://h/a/fail?b=c"),
        ("http://h:8", "http://h:8/fail"),
    ],
)
def test_the_url_of_a_failure(url: str, fails: str) -> None:
    assert failure_url(url) == fails
