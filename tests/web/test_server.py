"""Methods, hosts, headers and sizes of every answer; and answers to whatever is asked."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from urllib.parse import SplitResult, quote, urlsplit

import pytest

from polyb2.core.catalogue import DATASETS
from polyb2.core.status import Status
from polyb2.sandbox import Answer, Fault
from polyb2.web.server import is_ours
from tests.conftest import DAY_AGGS, QUOTES, Bench, key
from tests.web.conftest import Serving

DAY = "2024-01-02"
SMALL = key(DAY)
MARKUP = '<img src=x onerror="alert(1)">\'&amp;'
PAGES = ("/", "/live", f"/file?key={SMALL}", "/metrics", "/healthz", "/readyz", "/page.css", "/page.js", "/icon.svg")
ASKED = {
    "/nothing/here": 404,
    "/file": 200,
    "/file?key=": 200,
    "/file?key=unknown": 404,
    f"/file?key={key('2031-01-01')}": 404,
    "/file?key=%00": 404,
    "/file?key=%ff%fe": 404,
    f"/file?key={'x' * 4000}": 404,
    "/file?key=..%2F..%2Fetc%2Fpasswd": 404,
    "/file?yek=1&key=a&key=b": 404,
    f"/file/{DAY_AGGS}/2024-01-02": 200,
    f"/file/{DAY_AGGS}/2031-01-01": 404,
    f"/file/{DAY_AGGS}/yesterday": 404,
    f"/file/{DAY_AGGS}/20240102": 200,
    "/file/%3Cb%3E/%ff/%00": 404,
    f"/file/{DAY_AGGS}": 404,
    "/page.css/../../server.py": 404,
    "/assets/page.css": 404,
    "/?dataset=nobody/nothing": 404,
    f"/?dataset={quote(MARKUP)}": 404,
    f"/?dataset={DAY_AGGS}&year=2024": 200,
    f"/?dataset={DAY_AGGS}&year=1999": 200,
    f"/?dataset={DAY_AGGS}&year=": 200,
    f"/?dataset={DAY_AGGS}&year=two": 400,
    f"/?dataset={DAY_AGGS}&year=0000": 400,
    f"/?dataset={DAY_AGGS}&year=-1": 400,
    f"/?dataset={DAY_AGGS}&year=%D9%A2%D9%A0%D9%A2%D9%A4": 400,
    f"/?dataset={DAY_AGGS}&year=99999999999999999999": 400,
    "/?nonsense=1&%3Cscript%3E": 200,
}
"""Requests, and the status of the answer to each."""


@pytest.fixture
async def filled(bench: Bench) -> Bench:
    """Two files are mirrored, one is parked."""
    bench.box.source.put(SMALL, b"small file")
    bench.box.source.put(key(DAY, f"{MARKUP}/day_aggs_v1"), b"a dataset with markup in its name")
    bench.box.source.put(key("2024-01-03", QUOTES), b"refused")
    bench.box.source.inject(Fault("get", Answer(400, "InvalidRequest"), key=f"{QUOTES}/*", times=0))
    await bench.mirror_all()
    return bench


async def test_every_page_answers_get_and_head_and_nothing_else(filled: Bench, serving: Serving) -> None:
    async with serving() as site:
        for path in PAGES:
            got, head = await site.get(path), await site.get(path, "HEAD")
            assert (got.status, head.status) == (200, 200), path
            assert got.text, path
            assert not head.text, path
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
                refused = await site.get(path, method)
                assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD"), (path, method)


async def test_nothing_from_elsewhere_may_run_or_frame_it(filled: Bench, serving: Serving) -> None:
    async with serving() as site:
        answers = {path: await site.get(path) for path in (*PAGES, "/nothing/here", "/?year=x")}
    for path, answer in answers.items():
        headers = answer.headers
        policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'", path
        for name in ("script-src", "style-src", "connect-src", "img-src", "form-action"):
            assert policy[name] == "'self'", (path, name)
        assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY"), path
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", path
        kept = "max-age=86400" if path.endswith((".css", ".js", ".svg")) else "no-store"
        assert headers["Cache-Control"] == kept, path


@pytest.mark.parametrize(
    ("named", "ours"),
    [
        ("127.0.0.1:9750", True),
        ("127.0.0.2", True),
        ("[::1]:9750", True),
        ("localhost:9750", True),
        ("LOCALHOST", True),
        ("mirror.example:9750", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("mirror.example.:9750", True),
        ("MIRROR.example", True),
        ("192.168.1.2", True),
        ("192.168.1.5:9750", True),
        ("[2001:db8::1]:9750", True),
        (None, True),  # no browser
        ("192.168.1.2.evil.example", False),
        ("2001.db8.evil", False),
        ("", False),
        ("[", False),
        ("a@b:c", False),
    ],
)
def test_only_addresses_loopback_and_given_names_are_ours(named: str | None, ours: bool) -> None:
    assert is_ours(named, {"mirror.example"}) is ours


@pytest.mark.parametrize("listening", ["127.0.0.1", "0.0.0.0"])
async def test_a_foreign_name_that_points_here_is_not_answered(filled: Bench, serving: Serving, listening: str) -> None:
    async with serving(listening, polyb2_http_hosts=["mirror.lan"]) as site:
        for path in PAGES:
            assert (await site.get(path, Host="evil.example")).status == 421
        for ours in ("localhost:1", "mirror.lan:9750", "192.168.1.5:9750", "[::1]"):
            assert (await site.get("/", Host=ours)).status == 200


async def test_whatever_is_asked_is_answered_with_a_page(filled: Bench, serving: Serving) -> None:
    async with serving() as site:
        answers = {path: await site.get(path) for path in ASKED}
    assert {path: answer.status for path, answer in answers.items()} == ASKED
    assert [path for path, answer in answers.items() if not answer.text.startswith("<!DOCTYPE html>")] == []
    assert [path for path, answer in answers.items() if MARKUP in answer.text] == []


async def test_random_requests_never_meet_an_unexpected_error(
    filled: Bench, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(2024)
    words = "/ file ?key= live metrics %00 %ff .. & = dataset= < ' \" é # % %2f year= 2024 ; http:// a/b"
    pieces = [*words.split(), " ", "\t", "x" * 500]
    async with serving(polyb2_datasets=["*/*"]) as site:
        where = urlsplit(site.url)
        for _ in range(300):
            target = "".join(chance.choices(pieces, k=chance.randrange(1, 8)))
            assert await raw_status(where, f"GET {target}".encode()) in {200, 400, 404, 421}, target
        for strange in (b"GET", chance.randbytes(200), b"GET / HTTP/9.9", f"GET /?{'x' * 20_000}".encode()):
            assert await raw_status(where, strange) == 400
        assert (await site.get("/healthz")).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def raw_status(where: SplitResult, asked: bytes) -> int:
    """The status of the answer to a request line that no client would send."""
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(asked + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_names_with_markup_are_text(filled: Bench, serving: Serving) -> None:
    async with serving() as site:
        for path in ("/", f"/file?key={quote(key(DAY, f'{MARKUP}/day_aggs_v1'))}"):
            text = (await site.get(path)).text
            assert MARKUP not in text
            assert "&lt;img src=x onerror=" in text
            assert "<img" not in text
        echoed = (await site.get(f"/file?key={quote(MARKUP)}")).text
        assert "<img" not in echoed
        assert "&lt;img" in echoed


async def test_a_ledger_that_cannot_be_read_is_said_and_harms_nothing(filled: Bench, serving: Serving) -> None:
    """Readers never wait for it: the page says so at once, health and the engine's own metrics go on."""
    away = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('ALTER TABLE counts RENAME TO away')"
    async with serving() as site:
        assert "polyb2_ledger_readable 1.0" in (await site.get("/metrics")).text
        # By a process of its own: a descriptor of the ledger that is closed here would take the run's locks with it.
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", away, str(filled.folder / "ledger.db"))
        assert await process.wait() == 0
        for path in ("/", "/live"):
            while (answer := await site.get(path)).status == 200:
                await asyncio.sleep(0.05)
            assert answer.status == 503
            assert "The ledger cannot be read just now" in answer.text
        metrics = (await site.get("/metrics")).text
        assert "polyb2_ledger_readable 0.0" in metrics
        assert "polyb2_streams_allowed" in metrics
        assert "polyb2_queue_files" not in metrics
        assert (await site.get("/healthz")).status == 200


async def test_the_page_stays_small_whatever_there_is_to_show(bench: Bench, serving: Serving) -> None:
    """All 33 datasets, a full year, the errors of many."""
    for dataset in DATASETS:
        bench.box.source.put(key("2024-01-02", dataset), b"x")
        bench.box.source.put(key("2024-12-30", dataset), b"x")
    for month in range(1, 13):
        for day in range(1, 28):
            bench.box.source.put(key(f"2024-{month:02}-{day:02}", "global_crypto/day_aggs_v1"), b"x")
    bench.box.source.inject(Fault("get", Answer(400, "InvalidRequest", "long words " * 50), key="us_futures*", times=0))
    await bench.mirror_all(polyb2_datasets=["*/*"])
    async with serving(polyb2_datasets=["*/*"]) as site:
        sizes = [
            len((await site.get(path)).text.encode())
            for path in ("/?dataset=global_crypto/day_aggs_v1&year=2024", "/page.css", "/page.js", "/icon.svg")
        ]
    assert sum(sizes) < 100_000, sizes


async def test_the_history_shows_revisions_attempts_and_the_remedy(filled: Bench, serving: Serving) -> None:
    filled.box.source.put(SMALL, b"corrected figures")
    await filled.mirror_all()
    refused = key("2024-01-03", QUOTES)
    async with serving() as site:
        told = (await site.get(f"/file?key={SMALL}")).text
        assert "revision 2, the newest" in told
        row = await filled.row(SMALL)
        assert row["dest_version_id"] in told
        assert told.count("<tr>") == 2 + 2 + 2
        told = (await site.get(f"/file?key={refused}")).text
        assert f"polyb2 retry {refused}</code>" in told
        assert "InvalidRequest" in told
        unknown = (await site.get(f"/file?key={key('2031-01-01')}")).text
        assert f"polyb2 discover --dates 2031-01-01 --dataset {DAY_AGGS}</code>" in unknown


async def test_the_overview_has_the_counts_and_the_last_errors(filled: Bench, serving: Serving) -> None:
    async with serving() as site:
        text = (await site.get("/")).text
    assert f"polyb2 retry {key('2024-01-03', QUOTES)}</code>" in text
    assert Status.PERMANENT_FAILURE.replace("_", " ") in text
    assert "No file is in flight." in text


async def test_what_holds_it_up_is_on_the_page_and_in_readyz(bench: Bench, serving: Serving) -> None:
    bench.box.source.put(SMALL, b"small file")
    await bench.discover()
    bench.box.target.inject(
        Fault("*", Answer(403, "AccessDenied", "Transaction cap exceeded, see the Caps & Alerts page"), times=0)
    )
    async with serving() as site:
        while (await site.get("/readyz")).status != 503:
            await asyncio.sleep(0.02)
        text = (await site.get("/live")).text
        assert "Held up" in text
        assert "Caps &amp; Alerts page" in text
