"""The parsers of foreign bytes: any bytes become a value or an error of ours, never anything else."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polyb2.core.errors import HANDLING, Kind, RemoteError, Side
from polyb2.core.keys import parse_key
from polyb2.core.parts import Part, plan_parts
from polyb2.core.records import ListedObject, PartProof, Upload, UploadState
from polyb2.core.retry import RequestPolicy
from polyb2.core.units import parse_duration, parse_size
from polyb2.flow.discover.listed import unusable
from polyb2.remote.b2 import Target
from polyb2.remote.bucket import Bucket
from polyb2.remote.classify import from_body
from polyb2.remote.guard import Guard
from polyb2.remote.parsing import UNKNOWN
from polyb2.remote.polygon import Source, _is_range
from polyb2.remote.sessions import Account, Http, open_client
from polyb2.sandbox import Fault, Sandbox, Shape
from polyb2.sandbox.exchange import Exchange, Reply, xml_reply
from polyb2.sandbox.faults import Action
from tests.conftest import key

PART, SIZE = Part(2, 10, 10), 30
HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=60)
RANGE_TEXT = st.text("bytes 0123456789-/*\xb2\t", max_size=30)


@given(st.one_of(RANGE_TEXT, HEADER_TEXT))
@example("bytes 10-19/" + "9" * 5000)
@example("bytes " + "1" * 5000 + "-19/30")
@example("bytes 1\N{ARABIC-INDIC DIGIT ZERO}-19/30")
def test_only_the_very_range_is_the_range(header: str) -> None:
    assert _is_range(header, PART, SIZE) == (header.strip() in {"bytes 10-19/30", "bytes 10-19/*"})


@given(
    st.sampled_from(Side),
    st.sampled_from(["get", "put", "upload_part", "list"]),
    st.integers(300, 599),
    st.one_of(
        st.binary(max_size=300), st.text(max_size=100).map(lambda text: f"<Error><Code>{text}</Code></Error>".encode())
    ),
    st.one_of(HEADER_TEXT, st.text("0123456789 ,:+-JanTueGMT", max_size=40)),
)
@example(
    Side.TARGET, "put", 403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", f"Tue, 02 Jan {'9' * 30} 00:00:00 GMT"
)
@example(
    Side.TARGET, "put", 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", "Fri, 01 Jan 0001 00:00:00 +2359"
)
@example(Side.SOURCE, "get", 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", "")
def test_any_error_answer_is_classed(side: Side, operation: str, status: int, body: bytes, header: str) -> None:
    error = from_body(side, operation, status, {"Date": header, "Retry-After": header}, body)
    assert error.kind in HANDLING
    assert "\n" not in error.message
    assert len(str(error)) < 1000
    assert (error.retry_after_s or 0.0) >= 0.0


@given(st.text(max_size=2000))
def test_no_body_brings_a_signature_into_a_message(noise: str) -> None:
    url = "https://h/b/k?X-Amz-Credential=AKIA/20240102&X-Amz-Signature=abcdef0123"
    body = f"<Error><Code>Strange</Code><Message>{noise}{url} {noise}</Message></Error>"
    error = from_body(Side.TARGET, "put", 500, {}, body.encode("utf-8", "replace"))
    assert "abcdef0123" not in str(error)


@given(st.one_of(st.text(max_size=40), st.text("0123456789.,eEkKmMgGiIbB sh-+", max_size=20)))
def test_a_size_or_a_duration_is_a_number_or_a_value_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            number = parse(text)
        except ValueError:
            continue
        assert number >= 0


@given(
    st.one_of(st.text(max_size=60), st.from_regex(r"[^/]*/[^/]*/\d{4}/\d\d/\d{4}-\d\d-\d\d\.csv\.gz.?", fullmatch=True))
)
@example("../../etc/2024/01/2024-01-02.csv.gz")
@example("a/b/2024/01/2024-01-02.csv.gz\n")
@example("a/b/٢٠٢٤/01/٢٠٢٤-01-02.csv.gz")
def test_a_key_is_of_the_layout_or_foreign(text: str) -> None:
    name = parse_key(text)
    assert name is None or name.key == text


# -- listings, over real sockets and through the library --------------------------------------------------------------------


@dataclass
class Lister:
    """Both stores before a sandbox whose listings a test writes."""

    runner: asyncio.Runner
    box: Sandbox
    source: Source
    target: Target

    def listed(self, page: bytes) -> list[ListedObject]:
        """The records that both sides make of a page.

        Raises:
            RemoteError: it is no listing.
        """
        return self.runner.run(self._listed(page))

    async def _listed(self, page: bytes) -> list[ListedObject]:
        def write(reply: Reply) -> None:
            reply.body, reply.length = page, len(page)

        found: list[ListedObject] = []
        for server, store in ((self.box.source, self.source), (self.box.target, self.target)):
            server.clear_faults()
            server.inject(Fault("list", Shape(write), times=0))
            async with asyncio.timeout(5):
                async for objects in store.pages(""):
                    found += objects
                await store.folders("")
        return found


@pytest.fixture(scope="module")
def lister() -> Iterator[Lister]:
    with asyncio.Runner() as runner:
        made = _lister(runner)
        yield runner.run(anext(made))
        runner.run(made.aclose())


async def _lister(runner: asyncio.Runner):  # type: ignore[no-untyped-def]  # noqa: ANN202
    policy = RequestPolicy(tries=1)
    async with Sandbox() as box:
        source, target = (
            Account(server.endpoint_url, server.bucket, "us-east-1", server.access_key, server.secret_key)
            for server in (box.source, box.target)
        )
        async with (
            open_client(source) as one,
            open_client(target) as other,
            Http(source.endpoint) as http,
            Http(target.endpoint) as https,
        ):
            yield Lister(
                runner,
                box,
                Source(Bucket(source, one, http, Guard(Side.SOURCE, policy, 0, 5.0))),
                Target(Bucket(target, other, https, Guard(Side.TARGET, policy, 0, 5.0)), ""),
            )


def _page(more: str = "<IsTruncated>false</IsTruncated>") -> str:
    entries = "".join(
        f"<Contents><Key>{key(f'2024-01-{day:02}')}</Key><LastModified>2024-01-{day:02}T03:04:05.000Z</LastModified>"
        f"<ETag>&quot;{day:032x}&quot;</ETag><Size>{day * 1000}</Size></Contents>"
        for day in (2, 3)
    )
    folder = "<CommonPrefixes><Prefix>us_stocks_sip/</Prefix></CommonPrefixes>"
    return f"<ListBucketResult><Name>b</Name><KeyCount>3</KeyCount>{more}{entries}{folder}</ListBucketResult>"


def _bent(page: str, chance: random.Random) -> bytes:
    """A listing with an element left out or filled with something else, a byte changed, or its end missing."""
    text = page
    for _ in range(chance.randrange(1, 3)):
        name = chance.choice(re.findall(r"<(\w+)>", text) or ["Key"])
        found = chance.choice(list(re.finditer(f"<{name}>([^<]*)</{name}>", text)) or [None])
        if found is not None:
            value = chance.choice(["", "-1", "9" * 400, "x", "0.5", "٣", "true", "2024-13-45T00:00:00Z", "&#0;", None])
            put = "" if value is None else f"<{name}>{value}</{name}>"
            text = text[: found.start()] + put + text[found.end() :]
    data = bytearray(text.encode())
    if chance.random() < 0.3:
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.2 else data)


def test_a_whole_page_is_read(lister: Lister) -> None:
    assert len(lister.listed(_page().encode())) == 4


@pytest.mark.parametrize("time", ["2024-01-02T99:04:05", "9" * 400, "yesterday"])
def test_a_time_that_is_none_is_one_that_nobody_knows(lister: Lister, time: str) -> None:
    found = lister.listed(_page().replace("2024-01-02T03:04:05.000Z", time).encode())
    assert [item.last_modified_ms > 0 for item in found] == [False, True] * 2
    assert found[0].last_modified_ms == UNKNOWN


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_any_page_is_a_listing_or_an_error_of_ours(lister: Lister, seed: int) -> None:
    page = _bent(_page(), random.Random(seed))
    try:
        found = lister.listed(page)
    except RemoteError:
        return
    assert all(isinstance(item.key, str) and isinstance(item.size, int) for item in found), page


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (_page("<IsTruncated>true</IsTruncated>"), "more pages, and not where they begin"),
        (
            _page("<IsTruncated>true</IsTruncated><NextContinuationToken>YQ==</NextContinuationToken>"),
            "a page that leads back to itself",
        ),
        (_page().replace("us_stocks_sip/</Prefix>", "</Prefix>").replace("<Prefix></Prefix>", ""), "an entry"),
    ],
    ids=["no token", "the same token", "no folder"],
)
def test_a_page_that_cannot_be_is_an_error_of_its_side(lister: Lister, page: str, words: str) -> None:
    with pytest.raises(RemoteError, match=f"list was answered with .*{words}"):
        lister.listed(page.encode())


@pytest.mark.parametrize(
    "page",
    [
        _page().replace("<Size>2000</Size>", ""),
        _page().replace("<Size>2000</Size>", "<Size>-5</Size>"),
        _page().replace(f"<Key>{key('2024-01-02')}</Key>", ""),
        _page().replace("<LastModified>2024-01-02T03:04:05.000Z</LastModified>", ""),
        _page().replace("2024-01-02T03:04:05.000Z", "2024-01-02T99:04:05"),
        _page().replace("2024-01-02T03:04:05.000Z", "9" * 400),
        _page().replace(f"<ETag>&quot;{2:032x}&quot;</ETag>", ""),
    ],
    ids=["no size", "less than nothing", "no key", "no time", "no such hour", "a number", "no ETag"],
)
def test_an_entry_that_cannot_be_does_not_take_its_page_with_it(lister: Lister, page: str) -> None:
    usable = [item.key for item in lister.listed(page.encode()) if unusable(item) is None]
    assert set(usable) == {key("2024-01-03")}


PARTS = (
    "<ListPartsResult><MaxParts>1</MaxParts><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber>"
    "<ETag>&quot;x&quot;</ETag><Size>5</Size></Part></ListPartsResult>"
)
UPLOADS = (
    "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>k</Key><UploadId>u</UploadId>"
    "<Initiated>2024-01-02T03:04:05.000Z</Initiated></Upload></ListMultipartUploadsResult>"
)
VERSIONS = (
    "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>k</Key><VersionId>v</VersionId><Size>5</Size>"
    "<LastModified>2024-01-02T03:04:05.000Z</LastModified></Version></ListVersionsResult>"
)
SENT = Upload(1, 1, "k", "u", "t", plan_parts(5, streams=1, wanted=None), PartProof.ETAG, UploadState.OPEN)


@dataclass(frozen=True)
class Written(Action):
    """An answer that the test writes."""

    text: str

    async def before(self, exchange: Exchange) -> Reply:
        return xml_reply(self.text)


async def of_parts(target: Target) -> int:
    return len(await target.list_parts(SENT) or ())


async def of_uploads(target: Target) -> int:
    return len([item async for item in target.open_uploads("")])


async def of_versions(target: Target) -> int:
    return len([item async for item in target.versions("")])


@pytest.mark.parametrize(
    ("page", "named", "count"),
    [
        (PARTS, "PartNumber", of_parts),
        (PARTS, "Size", of_parts),
        (UPLOADS, "Initiated", of_uploads),
        (VERSIONS, "Size", of_versions),
        (VERSIONS, "LastModified", of_versions),
    ],
)
def test_what_is_sent_or_stored_is_believed_whole_or_not_at_all(
    lister: Lister, page: str, named: str, count: Callable[[Target], Coroutine[None, None, int]]
) -> None:
    def count_of(text: str) -> int:
        lister.box.target.clear_faults()
        lister.box.target.inject(Fault("*", Written(text), times=0))
        return lister.runner.run(count(lister.target))

    assert count_of(page) == 1
    for instead in ("", "x", "9" * 5000, f"1</{named}><{named}>2"):
        with pytest.raises(RemoteError, match=r"list_.* was answered with something impossible") as caught:
            count_of(re.sub(f"<{named}>[^<]*<", f"<{named}>{instead}<", page))
        assert caught.value.kind is Kind.BAD_ANSWER


@pytest.mark.parametrize(
    ("page", "named", "count"),
    [
        (PARTS, "ETag", of_parts),
        (UPLOADS, "Key", of_uploads),
        (UPLOADS, "UploadId", of_uploads),
        (VERSIONS, "VersionId", of_versions),
    ],
)
def test_an_entry_of_what_is_sent_or_stored_has_its_name(
    lister: Lister, page: str, named: str, count: Callable[[Target], Coroutine[None, None, int]]
) -> None:
    lister.box.target.clear_faults()
    lister.box.target.inject(Fault("*", Written(re.sub(f"<{named}>[^<]*<", f"<{named}><", page)), times=0))
    with pytest.raises(RemoteError, match=f"an entry of .* without {named}") as caught:
        lister.runner.run(count(lister.target))
    assert caught.value.kind is Kind.BAD_ANSWER
