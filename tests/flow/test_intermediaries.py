"""Answers that are not the service's, and those of its own that are doubted: trouble of the side or the file."""

from __future__ import annotations

import asyncio
import logging

import pytest

from polyb2.core.errors import AccountStoppedError, Kind, RemoteError, Side
from polyb2.core.status import Event
from polyb2.flow.run import breaker, diagnosis
from polyb2.flow.transfer import attempt
from polyb2.sandbox import Answer, Cut, Fault, GeneratedGzip, Shape
from polyb2.sandbox.exchange import Reply
from tests.conftest import MIB, QUOTES, Bench, key

DAYS = [key(f"2024-01-{day:02}") for day in range(2, 7)]
SMALL, LARGE = DAYS[0], key("2024-01-03", QUOTES)
OLD_S = 1_704_300_000.0


@pytest.fixture(autouse=True)
def _quick_probes(bench: Bench) -> None:
    """The probes of a side much faster."""
    bench.hurry(probe_first_s=0.02, probe_limit_s=0.1, probe_fresh_s=0.01, poll_s=0.05, near_fresh_s=0.0)


def fill(bench: Bench, *, large: bool = True) -> None:
    for number, name in enumerate(DAYS):
        bench.box.source.put(name, b"row\n" * (number + 1), last_modified_s=OLD_S)
    if large:
        bench.box.source.put(LARGE, GeneratedGzip(11 * MIB), part_bytes=5 * MIB, last_modified_s=OLD_S)


async def assert_all_done_and_nothing_charged(bench: Bench) -> None:
    rows = await bench.rows()
    assert {(row["status"], row["retry_count"]) for row in rows.values()} == {("completed", 0)}
    for name in rows:
        bench.assert_mirrored(name)
    bench.assert_clean()


def page(status: int) -> Answer:
    return Answer(status, html=True)


# -- somebody in between ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 302, 404])
@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_portal_that_answers_everything_for_a_while_charges_nobody(
    bench: Bench, side: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    fill(bench)
    await bench.discover()
    server = bench.box.source if side == "source" else bench.box.target
    portal = server.inject(Fault("*", page(status), times=40, skip=3))
    with caplog.at_level(logging.INFO):
        await bench.run(polyb2_concurrency=4)
    assert portal.hits == 40
    await assert_all_done_and_nothing_charged(bench)
    assert [record.levelname for record in caplog.records if "paused" in record.message] == ["ERROR"]
    assert not [record for record in caplog.records if "parked" in record.message or "tried again" in record.message]


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ("put", 200),
        ("put", 404),
        ("create", 200),
        ("upload_part", 404),
        ("complete", 200),
        ("complete", 404),
        ("head", 200),
        ("head", 404),
        ("list_uploads", 404),
        ("list_parts", 404),
        ("abort", 200),
        ("abort", 404),
    ],
)
async def test_a_page_in_place_of_any_one_operation_charges_nobody(bench: Bench, operation: str, status: int) -> None:
    fill(bench)
    if operation in {"list_parts", "abort"}:
        bench.box.target.inject(Fault("upload_part", Answer(404, "NoSuchUpload"), part=2))
    fault = bench.box.target.inject(Fault(operation, page(status), times=4))
    await bench.mirror_all()
    assert fault.hits == 4
    await assert_all_done_and_nothing_charged(bench)


async def assert_side_stops_run(bench: Bench, wall: Fault, match: str, failed: str) -> None:
    """The run gives up in the words of ``match`` without charging a file, and completes all of them once ``wall`` is gone."""
    async with asyncio.timeout(30):
        with pytest.raises(AccountStoppedError, match=match):
            await bench.run(polyb2_give_up=1.0)
    rows = (await bench.rows()).values()
    assert {row["retry_count"] for row in rows} == {0}
    assert {row["status"] for row in rows} <= {"pending", failed}
    wall.times = -1
    await bench.run()
    await assert_all_done_and_nothing_charged(bench)


@pytest.mark.parametrize("status", [403, 405, 421])
async def test_where_only_reading_meets_a_stranger_the_probe_reads(bench: Bench, status: int) -> None:
    """The listing works all the while: to ask for it would park every file."""
    fill(bench, large=False)
    await bench.discover()
    wall = bench.box.source.inject(Fault("get", page(status), times=0))
    await assert_side_stops_run(bench, wall, r"gave up after.*get was answered \d+ with a web page", "failed_download")


@pytest.mark.parametrize("status", [405, 501])
async def test_a_source_that_refuses_every_get_in_its_own_words_parks_nobody(bench: Bench, status: int) -> None:
    """No retry cures such an answer about one file; if it is about all of them, the side is at fault."""
    fill(bench, large=False)
    await bench.discover()
    wall = bench.box.source.inject(Fault("get", Answer(status, "MethodNotAllowed"), times=0))
    await assert_side_stops_run(bench, wall, r"gave up after.*get.* was answered", "failed_download")


async def test_where_only_writing_meets_a_stranger_no_file_is_parked(bench: Bench) -> None:
    """The target lists all the while; one file at a time finds out whether it takes bytes again."""
    fill(bench, large=False)
    await bench.discover()
    wall = bench.box.target.inject(Fault("put", page(403), times=0))
    await assert_side_stops_run(bench, wall, r"gave up after.*put was answered 403 with a web page", "failed_upload")


def without_etag(reply: Reply) -> None:
    reply.headers.pop("ETag", None)


@pytest.mark.parametrize(("operation", "name"), [("put", SMALL), ("upload_part", LARGE)])
async def test_a_put_that_is_answered_without_an_etag_is_sent_again(bench: Bench, operation: str, name: str) -> None:
    fill(bench)
    bent = bench.box.target.inject(Fault(operation, Shape(without_etag), key=name))
    await bench.mirror_all()
    assert bent.hits == 1
    assert (await bench.row(name))["attempt"] == 1
    await assert_all_done_and_nothing_charged(bench)


async def test_a_file_that_alone_meets_a_stranger_holds_up_nobody_and_is_parked_in_the_end(bench: Bench) -> None:
    fill(bench)
    bench.box.source.inject(Fault("get", page(403), key=SMALL, times=0))
    result = await bench.mirror_all()
    assert (result.outcome.completed, result.outcome.unfinished) == (5, {SMALL: Event.PARK})
    row = await bench.row(SMALL)
    assert (row["status"], row["reason"], row["retry_count"]) == ("permanent_failure", "bad_answer", 0)
    assert row["attempt"] == diagnosis.INTERMEDIARY_MAX
    assert "with a web page" in row["error_message"]


async def test_a_body_that_a_proxy_does_not_take_is_told_as_such_while_the_others_go(bench: Bench) -> None:
    fill(bench)
    bench.box.target.inject(Fault("upload_part", page(413), times=0))
    with pytest.raises(AccountStoppedError, match="refuses a body of this size"):
        await bench.mirror_all(polyb2_give_up=1.0, polyb2_concurrency=1)
    assert {row["status"] for name, row in (await bench.rows()).items() if name != LARGE} == {"completed"}
    assert (await bench.row(LARGE))["retry_count"] == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_redirect_is_followed_nowhere(
    bench: Bench, side: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.hurry(moved_limit_s=0.5)
    fill(bench, large=False)
    await bench.discover()
    server, other = (bench.box.source, bench.box.target) if side == "source" else (bench.box.target, bench.box.source)
    moved = Answer(
        status, headers={"Location": f"https://elsewhere.example/b/k?X-Amz-Signature=abc{other.port}"}, html=True
    )
    redirect = server.inject(Fault("*", moved, times=0))
    with pytest.raises((AccountStoppedError, RemoteError), match=r"moved to elsewhere\.example") as caught:
        await bench.run()
    assert "abc" not in str(caught.value)
    if side == "source":
        with pytest.raises(RemoteError, match=r"list was answered \d+: the endpoint moved to elsewhere\.example"):
            await bench.discover()
    assert redirect.hits > 1
    assert {row["retry_count"] for row in (await bench.rows()).values()} == {0}
    server.clear_faults()
    await bench.run()
    await assert_all_done_and_nothing_charged(bench)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_control_call_asks_no_other_host(bench: Bench, status: int) -> None:
    """botocore's own client would follow it, and correct a region by asking again."""
    fill(bench, large=False)
    before = len(bench.box.target.requests)
    location = {"Location": f"{bench.box.target.endpoint_url}/flatfiles?list-type=2"}
    for code in ("", "PermanentRedirect", "AuthorizationHeaderMalformed"):
        bench.box.source.clear_faults()
        bench.box.source.inject(Fault("list", Answer(status, code, headers=location), times=0))
        asked = bench.box.source.count("*")
        with pytest.raises(RemoteError, match="list was answered"):
            await bench.discover()
        assert bench.box.source.count("*") == asked + 1
    assert len(bench.box.target.requests) == before


# -- keys, regions, proxies that change what is signed ------------------------------------------------------------------


async def test_a_key_that_may_not_read_ends_the_run_in_words_and_charges_nobody(bench: Bench) -> None:
    fill(bench)
    bench.box.target.capabilities.discard("readFiles")
    await bench.discover()
    with pytest.raises(AccountStoppedError, match=r"the key lacks readFiles.*B2_KEY_ID"):
        await bench.run()
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"], row["reason"]) == ("pending", 0, "not_permitted")
    bench.box.target.capabilities.add("readFiles")
    await bench.run()
    await assert_all_done_and_nothing_charged(bench)
    assert len(bench.box.target.versions(LARGE)) == 1


@pytest.mark.parametrize(("side", "operation"), [("source", "get"), ("target", "put"), ("target", "upload_part")])
async def test_a_wrong_region_of_what_is_presigned_ends_the_run(bench: Bench, side: str, operation: str) -> None:
    fill(bench)
    await bench.discover()
    server = bench.box.source if side == "source" else bench.box.target
    words = "Error parsing the X-Amz-Credential parameter; the region 'a' is wrong; expecting 'eu-west-1'"
    server.inject(Fault(operation, Answer(400, "AuthorizationQueryParametersError", words), times=0))
    with pytest.raises(AccountStoppedError, match=r"eu-west-1'.*eu-west-1"):
        await bench.run()
    assert {row["retry_count"] for row in (await bench.rows()).values()} == {0}


@pytest.mark.parametrize("side", ["source", "target"])
async def test_a_signature_refused_after_a_good_listing_is_the_proxys(bench: Bench, side: str) -> None:
    fill(bench, large=False)
    await bench.discover()
    server, operation = (bench.box.source, "get") if side == "source" else (bench.box.target, "put")
    server.inject(Fault(operation, Answer(403, "SignatureDoesNotMatch"), times=0))
    with pytest.raises(AccountStoppedError, match="drops or changes signed headers"):
        await bench.run()
    row = await bench.row(SMALL)
    assert (row["status"], row["retry_count"]) == ("pending", 0)


# -- the service's own answers that contradict each other ------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchKey")])
async def test_a_listed_file_that_is_refused_for_a_while_is_asked_again(bench: Bench, status: int, code: str) -> None:
    fill(bench, large=False)
    refused = bench.box.source.inject(Fault("get", Answer(status, code), key=SMALL, times=4))
    await bench.mirror_all()
    assert refused.hits == 4
    await assert_all_done_and_nothing_charged(bench)


@pytest.mark.parametrize(
    ("status", "code", "young", "ends", "tries"),
    [
        (403, "AccessDenied", False, "not_entitled", diagnosis.TRIES + 1),
        (403, "AccessDenied", True, "not_entitled", diagnosis.TRIES_YOUNG + 1),
        (404, "NoSuchKey", False, "permanent_failure", diagnosis.TRIES + 2),
    ],
)
async def test_a_refusal_of_one_file_is_believed_after_many_tries(
    bench: Bench, status: int, code: str, young: bool, ends: str, tries: int
) -> None:
    fill(bench, large=False)
    if young:
        bench.box.source.put(SMALL, b"row\n")
    bench.box.source.inject(Fault("get", Answer(status, code), key=SMALL, times=0))
    await bench.mirror_all(polyb2_retry_base=0.002)
    row = await bench.row(SMALL)
    assert (row["status"], row["attempt"]) == (ends, tries)


async def test_two_403s_of_a_dataset_that_cannot_be_read_make_not_entitled(bench: Bench) -> None:
    fill(bench, large=False)
    bench.box.source.entitled = lambda _key: False
    await bench.mirror_all()
    assert {(row["status"], row["attempt"]) for row in (await bench.rows()).values()} == {("not_entitled", 2)}


def without_length(reply: Reply) -> None:
    reply.announced = None


def other_figure(reply: Reply) -> None:
    reply.headers["Content-Range"] = reply.headers["Content-Range"].partition("/")[0] + "/99"


async def test_a_head_without_a_length_is_told_as_such(bench: Bench) -> None:
    fill(bench)
    bench.box.target.inject(Fault("head", Shape(without_length), times=0))
    with pytest.raises(AccountStoppedError, match="head was answered without Content-Length"):
        await bench.mirror_all(polyb2_give_up=0.5)
    assert (await bench.row(LARGE))["retry_count"] == 0


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (Shape(other_figure), "was answered bytes"),
        (Answer(416, "InvalidRange", "The requested range is not satisfiable"), "get was answered 416"),
    ],
)
async def test_figures_that_contradict_the_listing_are_told_and_bounded(
    bench: Bench, bend: Shape | Answer, words: str
) -> None:
    fill(bench)
    bench.box.source.inject(Fault("get", bend, key=LARGE, times=0))
    result = await bench.mirror_all()
    assert result.outcome.unfinished == {LARGE: Event.PARK}
    row = await bench.row(LARGE)
    assert (row["status"], row["reason"], row["retry_count"]) == ("permanent_failure", "inconsistent", 2)
    size = bench.box.source.object(LARGE).content.size
    assert words in row["error_message"]
    assert f"the listing still shows {size} bytes" in row["error_message"]


@pytest.mark.parametrize(("status", "code"), [(400, "InvalidRequest"), (423, "Locked"), (425, "")])
async def test_a_part_that_is_refused_once_for_no_known_reason_is_sent_again(
    bench: Bench, status: int, code: str
) -> None:
    fill(bench)
    refused = bench.box.target.inject(Fault("upload_part", Answer(status, code), part=2))
    await bench.mirror_all()
    assert refused.hits == 1
    row = await bench.row(LARGE)
    assert (row["status"], row["attempt"], row["retry_count"]) == ("completed", 1, 0)


async def test_a_listing_of_uploads_that_knows_no_upload_is_empty(bench: Bench) -> None:
    fill(bench)
    unknown = bench.box.target.inject(Fault("list_uploads", Answer(404, "NoSuchUpload"), times=0))
    await bench.mirror_all()
    assert unknown.hits >= 1
    await assert_all_done_and_nothing_charged(bench)


async def test_writes_that_fail_for_every_file_are_the_targets_trouble(bench: Bench) -> None:
    """Its listing answers all the while; the first files may be charged once, and none is parked."""
    fill(bench, large=False)
    failing = bench.box.target.inject(Fault("put", Answer(500, "InternalError"), times=30))
    await bench.mirror_all(polyb2_part_tries=1)
    assert failing.hits == 30
    rows = (await bench.rows()).values()
    assert {row["status"] for row in rows} == {"completed"}
    assert sum(row["retry_count"] for row in rows) < diagnosis.FAILING_TOGETHER


# -- bounds, and polyb2's own errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False])
async def test_an_endless_answer_to_a_control_call_is_dropped_while_it_comes(bench: Bench, announced: bool) -> None:
    asked: list[int] = []

    def more(offset: int, length: int) -> bytes:
        asked.append(offset + length)
        return b"<Contents>" * (length // 10 + 1)

    def endless(reply: Reply) -> None:
        reply.body, reply.length = more, 800 * MIB
        if not announced:
            reply.announced = None

    bench.box.source.inject(Fault("list", Shape(endless), times=0))
    with pytest.raises(RemoteError, match="list: was answered with more than the 4 MiB that such an answer can have"):
        await bench.discover()
    assert max(asked) < 64 * MIB


@pytest.mark.parametrize("bend", ["control", "header"])
async def test_what_cannot_be_read_is_told_in_the_words_of_what_happened(bench: Bench, bend: str) -> None:
    def bent(reply: Reply) -> None:
        if bend == "header":
            reply.headers["X-Long"] = "x" * 9000
        else:
            reply.body = b"<ListBucketResult><Name>a\x01b</Name></ListBucketResult>"
            reply.length = len(reply.body)

    bench.box.source.inject(Fault("list", Shape(bent), times=0))
    words = "a header line of more than 8190 bytes" if bend == "header" else "XML that cannot be read"
    with pytest.raises(RemoteError, match=words):
        await bench.discover()


async def test_an_error_of_polyb2_itself_is_booked_on_nobody_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(bench, large=False)

    def broken(*_arguments: object, **_more: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(attempt, "plan_parts", broken)
    with caplog.at_level(logging.DEBUG):
        result = await bench.mirror_all()
    assert set(result.outcome.unfinished.values()) == {Event.PARK}
    row = await bench.row(SMALL)
    assert (row["status"], row["reason"], row["retry_count"]) == ("permanent_failure", "internal", 2)
    assert row["error_message"].startswith("unexpected KeyError in polyb2 itself (test_intermediaries.py:")
    assert "please report" in row["error_message"]
    traced = [record for record in caplog.records if record.exc_info]
    assert traced
    assert {record.levelno for record in traced} == {logging.DEBUG}


async def test_an_error_that_is_older_than_a_success_closes_no_gate() -> None:
    sides = diagnosis.Diagnosis({})
    gate = breaker.CircuitBreaker(sides, give_up_s=60.0, for_ever=False)
    before = sides.proofs
    gate.proved("a file", asyncio.get_running_loop().time())
    gate.report(RemoteError(Side.SOURCE, Kind.BAD_ANSWER, "get was answered 404"), "another", before)
    assert gate.error is None
    gate.report(RemoteError(Side.SOURCE, Kind.KEYS_REFUSED, "get was answered 403"), "another", before)
    assert gate.error is not None


# -- bytes that are not what was listed ---------------------------------------------------------------------------------


def other_size(reply: Reply) -> None:
    """As by a proxy that compresses, or adds to what passes."""
    reply.extra = b"y" * 50


CONTRADICTIONS = {"cut short": Cut(0), "another length": Shape(other_size)}


@pytest.mark.parametrize("bend", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
async def test_bodies_that_are_all_wrong_for_a_while_charge_nobody(bench: Bench, bend: Cut | Shape) -> None:
    fill(bench, large=False)
    # A dataset of two days, whose one other file is too few to tell anything.
    for name in (DAYS[0], DAYS[1]):
        bench.box.source.put(name.replace("us_stocks_sip", "global_crypto"), b"row\n" * 9, last_modified_s=OLD_S)
    await bench.discover()
    fault = bench.box.source.inject(Fault("get", bend, times=0))
    asyncio.get_running_loop().call_later(1.5, setattr, fault, "times", -1)
    await bench.run(polyb2_part_tries=2, polyb2_retry_base=0.05, polyb2_give_up=20.0)
    assert fault.hits > len(DAYS)
    rows = (await bench.rows()).values()
    assert {(row["status"], row["retry_count"]) for row in rows} == {("completed", 0)}


@pytest.mark.parametrize("bend", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
async def test_a_bad_load_of_some_days_is_parked_and_holds_up_no_other(bench: Bench, bend: Cut | Shape) -> None:
    fill(bench, large=False)
    for name in DAYS[1:3]:
        bench.box.source.inject(Fault("get", bend, key=name, times=0))
    result = await bench.mirror_all(polyb2_part_tries=2, polyb2_retry_base=0.05)
    assert result.outcome.unfinished == dict.fromkeys(DAYS[1:3], Event.PARK)
    for name in (DAYS[0], *DAYS[3:]):
        bench.assert_mirrored(name)
