"""Answers that differ from the request in one place each: none is accepted, and each is reported as what it is."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.parts import Part, PartPlan
from polyb2.core.records import PartProof, Revision, Upload, UploadState
from polyb2.core.retry import RequestPolicy
from polyb2.core.stamp import Stamp
from polyb2.remote import parsing
from polyb2.remote.b2 import Target
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.relay import Relay
from polyb2.sandbox import Answer, Cut, Fault, Reset, Sandbox, Shape
from polyb2.sandbox.exchange import Reply
from polyb2.sandbox.faults import Action
from tests.conftest import key
from tests.remote.conftest import Stores

KEY, BODY = key("2024-01-02"), bytes(range(250)) * 4
MD5 = hashlib.md5(BODY).hexdigest()
REVISION, PART = Revision(1, MD5, len(BODY), 0), Part(2, 100, 200)
ANOTHER = {"ETag": '"another"'}


async def _refused(stores: Stores, part: Part | None = PART) -> RemoteError:
    """The error of a read, at the head of its answer."""
    with pytest.raises(RemoteError) as caught:
        async with stores.source.read(KEY, REVISION, part):
            pass
    assert caught.value.side is Side.SOURCE
    return caught.value


# -- a file of the source --------------------------------------------------------------------------------------------


def _without_etag(reply: Reply) -> None:
    del reply.headers["ETag"]


def _status_203(reply: Reply) -> None:
    """Of a proxy that says that it changed something."""
    reply.status = 203


@pytest.mark.parametrize(
    ("action", "kind", "words"),
    [
        (Shape(_without_etag), Kind.BAD_ANSWER, "without an ETag"),
        (Shape(_status_203), Kind.BAD_ANSWER, "get was answered 203"),
        (Cut(50, "short"), Kind.INCONSISTENT, "announced 50 bytes"),
    ],
)
async def test_an_answer_that_is_not_what_was_asked_for(
    once: Stores, box: Sandbox, action: Action, kind: Kind, words: str
) -> None:
    box.source.put(KEY, BODY)
    box.source.inject(Fault("get", action))
    error = await _refused(once)
    assert error.kind is kind
    assert words in error.message
    async with once.source.read(KEY, REVISION, PART) as incoming:
        assert await Relay(incoming, PART.length, Bandwidth()).collect() == BODY[100:300]


@pytest.mark.parametrize("part", [PART, None], ids=["a range", "all of it"])
async def test_a_page_is_never_a_file(once: Stores, box: Sandbox, part: Part | None) -> None:
    """A page may have an ETag of its own; it says nothing of a newer revision."""
    box.source.put(KEY, BODY)
    box.source.inject(Fault("get", Answer(200, html=True, headers=ANOTHER)))
    error = await _refused(once, part)
    assert (error.kind, error.by_intermediary) == (Kind.BAD_ANSWER, True)


async def test_a_part_size_that_does_not_fit_is_not_believed(once: Stores, box: Sandbox) -> None:
    made = box.source.put(KEY, BODY, part_bytes=300)
    revision = Revision(1, made.etag, len(BODY), 0)
    assert await once.source.own_part_bytes(KEY, revision, 4) == 300
    assert await once.source.own_part_bytes(KEY, revision, 3) is None
    box.source.answers_part_number = False
    assert await once.source.own_part_bytes(KEY, revision, 1) is None, "the whole file is no part"


async def test_a_longer_key_is_not_the_file(once: Stores, box: Sandbox) -> None:
    box.source.put(f"{KEY}.longer", BODY)
    assert await once.source.stat(KEY) is None
    box.source.put(KEY, BODY)
    listed = await once.source.stat(KEY)
    assert listed is not None
    assert (listed.key, listed.size) == (KEY, len(BODY))


# -- listings --------------------------------------------------------------------------------------------------------


def _written(bend: Callable[[str], str]) -> Shape:
    def shape(reply: Reply) -> None:
        assert isinstance(reply.body, bytes)
        reply.body = bend(reply.body.decode()).encode()
        reply.length = len(reply.body)

    return Shape(shape)


async def test_a_listing_of_folders_ends(once: Stores, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "FOLDER_PAGES_MAX", 3)
    box.source.put(KEY, BODY)
    numbers = count()

    def endless(xml: str) -> str:
        token = base64.urlsafe_b64encode(b"before the first key %d" % next(numbers)).decode()
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        return re.sub("<IsTruncated>.*?</IsTruncated>", more, xml)

    box.source.inject(Fault("list", _written(endless), times=0))
    box.source.inject(Fault("list", Answer(400, "InvalidRequest"), skip=6))  # where it does not end
    assert set(await once.source.folders("")) == {"us_stocks_sip"}
    assert box.source.count("list") == 3


async def test_xml_of_a_stranger_is_no_empty_listing(once: Stores, box: Sandbox) -> None:
    for server in (box.source, box.target):
        server.inject(Fault("list", _written(lambda _xml: "<status><ok/></status>"), times=0))
    for store in (once.source, once.target):
        with pytest.raises(RemoteError) as caught:
            _ = [page async for page in store.pages("")]
        assert caught.value.kind is Kind.BAD_ANSWER


@pytest.mark.parametrize(("action", "requests"), [(Answer(500, "InternalError"), 1), (Reset("before"), 2)])
async def test_a_control_call_is_one_request(once: Stores, box: Sandbox, action: Action, requests: int) -> None:
    """Its retries are the guard's. But aiohttp asks once more itself where a connection ends without an answer."""
    box.source.inject(Fault("list", action, times=0))
    with pytest.raises(RemoteError):
        await once.source.folders("")
    assert box.source.count("list") == requests


# -- what is stored --------------------------------------------------------------------------------------------------


async def test_a_page_is_never_a_stored_version(once: Stores, box: Sandbox) -> None:
    """Not even one that has as many bytes."""
    page = Answer(200, html=True)
    await box.target.store(KEY, BODY)
    box.target.inject(Fault("get", page))
    with pytest.raises(RemoteError) as caught:
        async with once.target.read(KEY, None, Part(1, 0, page._reply().length)):
            pass
    assert (caught.value.side, caught.value.kind, caught.value.by_intermediary) == (
        Side.TARGET,
        Kind.BAD_ANSWER,
        True,
    )


async def test_a_stored_version_of_another_length_is_told_at_its_head(once: Stores, box: Sandbox) -> None:
    await box.target.store(KEY, BODY)
    box.target.inject(Fault("get", Cut(50, "short")))
    with pytest.raises(RemoteError, match="get of 200 bytes was answered with 50") as caught:
        async with once.target.read(KEY, None, PART):
            pass
    assert caught.value.kind is Kind.INCONSISTENT


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(200, "InternalError", headers=ANOTHER), Kind.SERVER_ERROR),
        (Answer(200, html=True, headers=ANOTHER), Kind.BAD_ANSWER),
    ],
    ids=["an error", "a page"],
)
async def test_what_is_in_a_200_of_a_put_counts(once: Stores, box: Sandbox, answer: Answer, kind: Kind) -> None:
    """A slow service keeps the connection alive by its 200, and then says how it went."""
    box.target.inject(Fault("put", answer))
    with pytest.raises(RemoteError) as caught:
        await once.target.put(KEY, BODY, len(BODY), MD5, Stamp(), fresh=False)
    assert (caught.value.side, caught.value.kind) == (Side.TARGET, kind)


# -- multipart -------------------------------------------------------------------------------------------------------


async def _begun(stores: Stores) -> Upload:
    upload_id = await stores.target.create(KEY, Stamp())
    return Upload(1, 1, KEY, upload_id, "token", PartPlan(len(BODY), 100), PartProof.PARTS, UploadState.OPEN)


async def test_a_complete_is_sent_once(once: Stores, box: Sandbox) -> None:
    """A lost answer is settled by looking: the second one would be told that there is no such upload."""
    once.target.guard.policy = RequestPolicy(tries=3, first_s=0.001)
    box.target.inject(Fault("complete", Answer(500, "InternalError"), times=0))
    with pytest.raises(RemoteError):
        await once.target.complete(await _begun(once), [])
    assert box.target.count("complete") == 1


async def test_an_error_in_the_200_of_a_complete_is_what_it_says(once: Stores, box: Sandbox) -> None:
    box.target.inject(Fault("complete", Answer(200, "InternalError")))
    with pytest.raises(RemoteError) as caught:
        await once.target.complete(await _begun(once), [])
    assert (caught.value.kind, caught.value.by_intermediary) == (Kind.SERVER_ERROR, False)


UPLOAD = Upload(1, 1, KEY, "id", "token", PartPlan(len(BODY), 100), PartProof.PARTS, UploadState.OPEN)
NEEDS_NOTHING: dict[str, Callable[[Target], Awaitable[object]]] = {
    "head_bucket": lambda target: target.head_bucket(),
    "abort": lambda target: target.abort(KEY, UPLOAD.upload_id),
    "delete": lambda target: target.delete_version(KEY, "v"),
    "complete": lambda target: target.complete(UPLOAD, []),
    "lifecycle": lambda target: target.lifecycle_rules(),
}


@pytest.mark.parametrize("operation", NEEDS_NOTHING)
async def test_a_page_is_no_answer_to_what_needs_none(once: Stores, box: Sandbox, operation: str) -> None:
    """Nothing has to be in these answers, so that a page would pass for one of them."""
    box.target.inject(Fault(operation, Answer(200, html=True)))
    with pytest.raises(RemoteError) as caught:
        await NEEDS_NOTHING[operation](once.target)
    assert (caught.value.kind, caught.value.by_intermediary) == (Kind.BAD_ANSWER, True)


async def test_all_pages_of_parts_are_read(once: Stores, box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyb2.sandbox.multipart.PAGE", 2)
    box.source.put(KEY, BODY)
    upload = await _begun(once)
    for number in range(1, 6):
        part = upload.plan.part(number)
        async with once.source.read(KEY, REVISION, part) as incoming:
            await once.target.put_part(upload, part, Relay(incoming, part.length, Bandwidth()), fresh=False)
    found = await once.target.list_parts(upload)
    assert found is not None
    assert [part.number for part in found] == [1, 2, 3, 4, 5]


# -- another host ----------------------------------------------------------------------------------------------------


async def _read(stores: Stores) -> None:
    async with stores.source.read(KEY, REVISION, PART):
        pass


ASKS: dict[str, Callable[[Stores], Awaitable[object]]] = {
    "list": lambda stores: stores.source.folders(""),
    "get": _read,
    "put": lambda stores: stores.target.put(KEY, BODY, len(BODY), MD5, Stamp(), fresh=False),
}


@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.parametrize("operation", ASKS)
async def test_no_request_goes_where_a_redirect_leads(once: Stores, box: Sandbox, operation: str, status: int) -> None:
    server, other = (box.target, box.source) if operation == "put" else (box.source, box.target)
    location = {"Location": f"{other.endpoint_url}/elsewhere"}
    server.inject(Fault(operation, Answer(status, headers=location, html=True), times=0))
    with pytest.raises(RemoteError, match="the endpoint moved to 127") as caught:
        await ASKS[operation](once)
    assert (caught.value.kind, other.count()) == (Kind.MISCONFIGURED, 0)
