"""The benchmark's servers tell the truth, and its scenarios run: tiny, polyb2 alone."""

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.content import PERIOD_BYTES, Content
from benchmarks.pair import Conditions, Pair, open_pair
from benchmarks.results import read_sections, write_section
from benchmarks.server.throttle import Throttle

KEY = "us_stocks_sip/trades_v1/2024/01/2024-01-02.csv.gz"
CONTENT = Content(KEY, 3 * PERIOD_BYTES // 2)


def bytes_of(content: Content, offset: int, length: int) -> bytes:
    return b"".join(content.slices(offset, length))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with open_pair(Conditions([(KEY, CONTENT.size)], part_bytes=6_000_000)) as opened:
        yield opened


def ask(url: str, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request(method, path, body)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    connection.close()
    return found


def test_content_is_the_same_however_it_is_read() -> None:
    whole = bytes_of(CONTENT, 0, CONTENT.size)
    assert len(whole) == CONTENT.size
    assert bytes_of(CONTENT, 5_000_000, 4_000_000) == whole[5_000_000:9_000_000]
    assert CONTENT.has(memoryview(whole[7_000_000:7_100_000]), 7_000_000)
    assert not CONTENT.has(memoryview(whole[7_000_000:7_100_000]), 7_000_001)
    assert CONTENT.md5(100, 200) == hashlib.md5(whole[100:300], usedforsecurity=False).hexdigest()


def test_the_source_sends_what_it_has(pair: Pair) -> None:
    status, headers, body = ask(pair.source_url, "GET", f"/flatfiles/{KEY}")
    assert (status, body) == (200, bytes_of(CONTENT, 0, CONTENT.size))
    assert headers["etag"].strip('"') == CONTENT.etag(6_000_000)


@pytest.mark.parametrize("wrong_at", [None, 0, 2_000_000])
def test_etags_are_the_md5_of_what_came_in(pair: Pair, wrong_at: int | None) -> None:
    pair.clear()
    body = bytearray(bytes_of(CONTENT, 0, CONTENT.size))
    if wrong_at is not None:
        body[wrong_at] ^= 1
    _, headers, _ = ask(pair.target_url, "PUT", f"/mirror/{KEY}", bytes(body))
    assert headers["etag"].strip('"') == hashlib.md5(body, usedforsecurity=False).hexdigest()
    _, seen = pair.reports()
    assert (seen["objects"], seen["identical"], seen["taken_bytes"]) == (1, int(wrong_at is None), CONTENT.size)


def test_a_file_put_together_in_the_wrong_order_is_told(pair: Pair) -> None:
    pair.clear()
    upload = ask(pair.target_url, "POST", f"/mirror/{KEY}?uploads")[2].split(b"<UploadId>")[1].split(b"<")[0].decode()
    half = CONTENT.size // 2
    named = ""
    for number, offset in ((1, CONTENT.size - half), (2, 0)):
        path = f"/mirror/{KEY}?partNumber={number}&uploadId={upload}"
        etag = ask(pair.target_url, "PUT", path, bytes_of(CONTENT, offset, half))[1]["etag"]
        named += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
    complete = f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>".encode()
    assert ask(pair.target_url, "POST", f"/mirror/{KEY}?uploadId={upload}", complete)[0] == 200
    _, seen = pair.reports()
    assert (seen["objects"], seen["identical"]) == (1, 0)


def test_the_throttle_refuses_what_is_above_its_limit() -> None:
    throttle = Throttle(requests_per_s=10, bytes_per_s=0)
    refused = sum(throttle.refusal("get", 1) is not None for _ in range(20))
    assert refused >= 10
    assert throttle.refusal("head", 1) is None
    assert throttle.report()["accepted"] + refused == 20


def test_a_section_replaces_itself_only(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    for name, body in (("one", "first"), ("two", "second"), ("one", "third")):
        write_section(results, name, name.title(), body, "command")
    sections = read_sections(results)
    assert list(sections) == ["one", "two"]
    assert "third" in sections["one"]
    assert "first" not in results.read_text()


@pytest.mark.parametrize(
    ("scenario", "client"),
    [("large-tls", "polyb2"), ("wan-small-http", "polyb2"), ("cores-small", "polyb2, 2 processes")],
)
def test_a_scenario_runs(scenario: str, client: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "RESULTS.md"
    words = [scenario, "--rounds", "1", "--scale", "0.01", "--only", client, "--write", str(results)]
    assert main(words) == 0
    assert f"| {client} " in results.read_text()
    assert f"| {client} " in capsys.readouterr().out


def test_an_unknown_scenario_is_told() -> None:
    assert main(["nothing-of-that-name"]) == 2
