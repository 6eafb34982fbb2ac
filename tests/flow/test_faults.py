"""A fault at one step, and the state it leaves: the object, the row, the uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from polyb2.core.errors import AccountStoppedError
from polyb2.core.selection import named_dates
from polyb2.core.status import Event
from polyb2.sandbox import Answer, Call, Cut, Fault, FlipBody, FlipStored, GeneratedGzip, Reset, Shape, Stall
from polyb2.sandbox.exchange import Reply
from tests.conftest import MIB, QUOTES, Bench, key

SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)


def answer_200(reply: Reply) -> None:
    reply.status = 200


def other_range(reply: Reply) -> None:
    reply.headers["Content-Range"] = "bytes 0-9/99"


def extra_bytes(reply: Reply) -> None:
    reply.extra = b"more"


def other_etag(reply: Reply) -> None:
    reply.headers["ETag"] = '"00000000000000000000000000000000"'


def named(fault: Fault) -> str:
    """The same in every process: a function's address is not."""
    return fault.action.bend.__name__ if isinstance(fault.action, Shape) else f"{fault.action}"[:60]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("get", Reset("before")),
        Fault("get", Reset("middle", 1000)),
        Fault("get", Cut(1000)),
        Fault("get", Cut(1000, "short")),
        Fault("get", Cut(1000, "none")),
        Fault("get", Answer(500, "InternalError")),
        Fault("get", Answer(503, "SlowDown", headers={"Retry-After": "0"})),
        Fault("get", Answer(429)),
        Fault("get", Answer(502, html=True)),
        Fault("get", FlipBody(500)),
        Fault("get", Shape(extra_bytes)),
        Fault("get", Stall(1000)),
    ],
    ids=named,
)
@pytest.mark.parametrize("name", [SMALL, LARGE], ids=["small", "large"])
async def test_a_read_that_fails_once_is_tried_again(bench: Bench, fault: Fault, name: str) -> None:
    bench.box.source.put(SMALL, b"row\n" * 5000)
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB), part_bytes=5 * MIB)
    fault.key = name
    bench.box.source.inject(fault)
    result = await bench.mirror_all(polyb2_stall_timeout=0.3)
    assert fault.hits == 1
    assert result.outcome.unfinished == {}
    bench.assert_mirrored(name)
    bench.assert_clean()
    assert (await bench.row(name))["retry_count"] == 0


@pytest.mark.parametrize("bend", [answer_200, other_range])
async def test_a_wrong_range_is_never_passed_on(bench: Bench, bend: Callable[[Reply], None]) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    bench.box.source.inject(Fault("get", Shape(bend), times=2))
    await bench.mirror_all()
    bench.assert_mirrored(LARGE)


async def test_a_range_that_is_all_of_the_file_may_be_answered_200(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(MIB), part_bytes=5 * MIB)
    bench.box.source.inject(Fault("get", Shape(answer_200), times=0))
    await bench.mirror_all()
    bench.assert_mirrored(LARGE)
    assert (await bench.row(LARGE))["retry_count"] == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault("put", Reset("before")),
        Fault("put", Reset("middle", 100)),
        Fault("put", Reset("after")),
        Fault("put", Answer(503, "ServiceUnavailable", "no tomes available")),
        Fault("put", Answer(503, "ServiceUnavailable", read_body=False, close=True)),
        Fault("put", Answer(400, "InvalidRequest", "The request body was too small")),
        Fault("put", Answer(400, "RequestTimeout")),
        Fault("put", Answer(408)),
        Fault("put", FlipStored()),
        Fault("put", Stall()),
    ],
    ids=named,
)
async def test_a_small_put_that_fails_once_is_tried_again(bench: Bench, fault: Fault) -> None:
    bench.box.source.put(SMALL, b"row\n" * 5000)
    bench.box.target.inject(fault)
    await bench.mirror_all(polyb2_stall_timeout=0.3)
    assert fault.hits == 1
    bench.assert_mirrored(SMALL)
    assert (await bench.row(SMALL))["verification"] == "etag"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("upload_part", Reset("middle", 1000)),
        Fault("upload_part", Reset("after")),
        Fault("upload_part", Answer(500, "InternalError")),
        Fault("upload_part", Answer(503, "SlowDown", headers={"Retry-After": "0"}), times=3),
        Fault("upload_part", FlipStored(), part=1),
        Fault("upload_part", FlipStored(), part=2),
        Fault("upload_part", Stall(reading=True)),
        Fault("create", Reset("after")),
        Fault("create", Answer(500, "InternalError")),
        Fault("create", Answer(502, html=True)),
        Fault("create", Stall()),
        Fault("list_uploads", Stall()),
        Fault("complete", Stall()),
        Fault("head", Stall()),
        Fault("complete", Reset("before")),
        Fault("complete", Reset("after")),
        Fault("complete", Answer(500, "InternalError")),
        Fault("complete", Answer(200, "InternalError", "in a 200")),
        Fault("complete", Answer(500, "InternalError", took_place=True)),
    ],
    ids=lambda fault: f"{fault.operation} {fault.action}"[:70],
)
async def test_an_upload_survives_a_fault_of_one_request(bench: Bench, fault: Fault) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB), part_bytes=5 * MIB)
    bench.box.target.inject(fault)
    await bench.mirror_all(polyb2_stall_timeout=0.3)
    assert fault.hits >= 1
    bench.assert_mirrored(LARGE)
    bench.assert_clean()
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"], row["verification"]) == ("completed", 0, "etag")
    assert len(bench.box.target.versions(LARGE)) == 1


async def test_a_flipped_byte_of_an_unhashed_part_is_found_by_the_composite(bench: Bench) -> None:
    """Part 3 is not hashed with proof `etag`: only the composite shows it, and only that part is sent again."""
    bench.box.source.put(LARGE, GeneratedGzip(26 * MIB), part_bytes=5 * MIB)
    bench.box.source.inject(Fault("get", FlipBody(7), skip=2))
    await bench.mirror_all(polyb2_concurrency=1)
    bench.assert_mirrored(LARGE)
    assert (await bench.row(LARGE))["verification"] == "etag"
    assert bench.box.target.count("upload_part") == 6 + 1


async def test_a_byte_of_the_hashed_part_that_flipped_at_the_source_is_found_by_the_composite(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB), part_bytes=5 * MIB)
    bench.box.source.inject(Fault("get", FlipBody(700)))
    await bench.mirror_all(polyb2_concurrency=1)
    bench.assert_mirrored(LARGE)
    row = await bench.row(LARGE)
    assert (row["verification"], bench.box.target.count("upload_part")) == ("etag", 5)
    assert len(bench.box.target.versions(LARGE)) == 1


async def test_a_composite_that_is_none_is_proven_by_parts(bench: Bench) -> None:
    bench.box.source.put(
        LARGE, GeneratedGzip(16 * MIB), part_bytes=5 * MIB, opaque_etag="0123456789abcdef0123456789abcdef-4"
    )
    await bench.mirror_all()
    bench.assert_mirrored(LARGE)
    assert (await bench.row(LARGE))["verification"] == "parts"


async def test_an_etag_that_only_looks_like_an_md5_is_outvoted_by_two_reads(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"row\n" * 500, opaque_etag="0123456789abcdef0123456789abcdef")
    await bench.mirror_all()
    bench.assert_mirrored(SMALL)
    assert (await bench.row(SMALL))["verification"] == "parts"
    assert bench.box.target.count("put") == 2


async def test_a_part_that_never_agrees_is_never_completed(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB))
    bench.box.target.inject(Fault("upload_part", FlipStored(), part=2, times=0))
    result = await bench.mirror_all()
    assert result.outcome.unfinished == {LARGE: Event.PARK}
    row = await bench.row(LARGE)
    assert (row["status"], row["reason"], row["retry_count"]) == ("permanent_failure", "mismatch", 2)
    assert bench.box.target.current(LARGE) is None
    bench.assert_clean()


async def test_a_poisoned_file_is_parked_and_the_others_go_on(bench: Bench) -> None:
    for day in range(1, 9):
        bench.box.source.put(key(f"2024-01-{day:02}"), b"x" * day)
    bench.box.source.inject(Fault("get", Answer(500, "InternalError"), key=SMALL, times=0))
    result = await bench.mirror_all(polyb2_part_tries=2, polyb2_concurrency=2)
    assert (result.outcome.completed, result.outcome.unfinished) == (7, {SMALL: Event.PARK})
    row = await bench.row(SMALL)
    assert (row["status"], row["reason"], row["retry_count"], row["attempt"]) == (
        "permanent_failure",
        "server_error",
        2,
        3,
    )
    assert "a run continues by itself" in row["error_message"]


async def test_failed_says_which_side(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.put(key("2024-01-03"), b"y")
    bench.box.source.inject(Fault("get", Answer(500, "InternalError"), key=SMALL, times=0))
    bench.box.target.inject(Fault("put", Answer(500, "InternalError"), key=key("2024-01-03"), times=0))
    await bench.discover()
    await bench.run(limit=2, polyb2_part_tries=1, polyb2_retry_base=60.0)
    rows = await bench.rows()
    assert [rows[name]["status"] for name in (SMALL, key("2024-01-03"))] == ["failed_download", "failed_upload"]


async def test_an_attempt_that_added_a_receipt_is_not_charged(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(26 * MIB))
    failing = bench.box.source.inject(Fault("get", Answer(500, "InternalError"), skip=1, times=1))
    await bench.discover()
    await bench.run(limit=1, polyb2_part_tries=1, polyb2_concurrency=1, polyb2_retry_base=60.0)
    assert failing.hits == 1
    row = await bench.row(LARGE)
    assert (row["status"], row["retry_count"], row["parts_done"]) == ("failed_download", 0, 1)


async def test_ancestor_two_403s_a_back_off_apart_make_not_entitled(bench: Bench) -> None:
    """The ancestor made a file that was not published yet a permanent failure at once."""
    bench.box.source.put(SMALL, b"x")
    bench.box.source.entitled = lambda _key: False
    await bench.discover()
    await bench.run(limit=1, polyb2_retry_base=60.0)
    row = await bench.row(SMALL)
    assert (row["status"], row["reason"], row["retry_count"]) == ("failed_download", "forbidden", 0)
    assert row["next_attempt_at"] is not None


async def test_the_second_403_parks_and_only_a_named_retry_revives(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.entitled = lambda _key: False
    result = await bench.mirror_all()
    assert result.outcome.unfinished == {SMALL: Event.REFUSE}
    assert (await bench.row(SMALL))["status"] == "not_entitled"
    assert (await bench.discover()).total("queued") == 0
    assert "0 files" in (await bench.cli("retry")).out
    assert "1 files" in (await bench.cli("retry", "--status", "not_entitled")).out
    bench.box.source.entitled = lambda _key: True
    await bench.run()
    bench.assert_mirrored(SMALL)


async def test_a_file_that_vanished_is_parked_and_revived_when_it_is_listed_again(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    bench.box.source.remove(SMALL)
    await bench.run()
    row = await bench.row(SMALL)
    assert (row["status"], row["reason"]) == ("permanent_failure", "source_gone")
    bench.box.source.put(SMALL, b"x")
    await bench.mirror_all()
    bench.assert_mirrored(SMALL)


async def test_discover_notices_what_is_gone_within_its_own_dates_only(bench: Bench) -> None:
    for day in (1, 2, 3):
        bench.box.source.put(key(f"2024-01-0{day}"), b"x")
    await bench.discover()
    bench.box.source.remove(key("2024-01-01"))
    bench.box.source.remove(key("2024-01-02"))
    report = await bench.discover(named_dates(["2024-01-02"], ("us_stocks_sip/day_aggs_v1",)))
    assert report.gone == 1
    rows = await bench.rows()
    assert [rows[key(f"2024-01-0{day}")]["status"] for day in (1, 2, 3)] == ["pending", "permanent_failure", "pending"]


@pytest.mark.parametrize("honours", [True, False], ids=["if-match", "ignored"])
async def test_a_source_replaced_between_two_parts_ends_as_its_newest_revision(bench: Bench, honours: bool) -> None:
    bench.box.source.honours_if_match = honours
    bench.box.source.put(LARGE, GeneratedGzip(26 * MIB))
    newer = GeneratedGzip(21 * MIB, seed=9)
    replace = Call(lambda: void(bench.box.source.put(LARGE, newer)))
    bench.box.source.inject(Fault("get", replace, skip=2))
    await bench.mirror_all(polyb2_concurrency=1)
    assert bench.stored(LARGE) == newer.read(0, newer.size)
    row = await bench.row(LARGE)
    assert (row["status"], row["revision"], row["retry_count"]) == ("completed", 2, 0)
    bench.assert_clean()


async def test_a_file_replaced_while_it_is_sent_is_queued_again_by_discovery(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"old")

    async def replaced() -> None:
        bench.box.source.put(SMALL, b"newer")
        await bench.discover()

    bench.box.target.inject(Fault("put", Call(replaced, "after")))
    await bench.mirror_all()
    assert [item.read(0, 9) for item in bench.box.target.versions(SMALL)] == [b"old", b"newer"]


async def test_an_upload_aborted_behind_our_back_begins_again_at_once(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB))
    target = bench.box.target
    target.inject(Fault("upload_part", Call(lambda: target.drop_upload(target.open_uploads()[0].upload_id)), part=3))
    await bench.mirror_all()
    bench.assert_mirrored(LARGE)
    assert (await bench.row(LARGE))["attempt"] == 1
    bench.assert_clean()


async def test_a_slow_assembly_is_waited_for(bench: Bench) -> None:
    bench.box.target.assembly_s = 1.0
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    bench.box.target.inject(Fault("complete", Reset("after")))
    await bench.mirror_all()
    assert bench.box.target.count("complete") == 1
    assert (await bench.row(LARGE))["attempt"] == 1


async def test_head_of_a_missing_key_may_be_403(bench: Bench) -> None:
    bench.box.target.lacks_list_buckets = True
    bench.box.source.put(SMALL, b"x")
    bench.box.source.inject(Fault("get", Answer(500, "InternalError"), times=2))
    await bench.mirror_all(polyb2_part_tries=1)
    bench.assert_mirrored(SMALL)
    assert (await bench.row(SMALL))["attempt"] == 3


@pytest.mark.parametrize("side", ["source", "target"])
async def test_refused_keys_end_the_run_at_once_and_charge_nobody(bench: Bench, side: str) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    server = bench.box.source if side == "source" else bench.box.target
    server.keys_revoked = True
    with pytest.raises(AccountStoppedError, match=side):
        await bench.run()
    row = await bench.row(SMALL)
    assert (row["status"], row["retry_count"], row["reason"]) == ("pending", 0, "keys_refused")
    server.keys_revoked = False
    await bench.run()
    bench.assert_mirrored(SMALL)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
async def test_a_source_that_does_not_answer_head_is_proven_by_its_parts(bench: Bench, status: int) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB), part_bytes=5 * MIB)
    bench.box.source.inject(Fault("head", Answer(status), times=0))
    await bench.mirror_all(polyb2_part_tries=1)
    bench.assert_mirrored(LARGE)
    row = await bench.row(LARGE)
    assert (row["verification"], row["attempt"]) == ("parts", 1)


async def test_a_refused_listing_is_about_the_keys_and_parks_nobody_as_not_entitled(bench: Bench) -> None:
    """Revoked keys may be answered a plain 403 everywhere: the second one of a file is not about the plan then."""
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    for operation in ("get", "list"):
        bench.box.source.inject(Fault(operation, Answer(403, "AccessDenied"), times=0))
    with pytest.raises(AccountStoppedError, match="source: list was answered 403"):
        await bench.run()
    row = await bench.row(SMALL)
    assert (row["status"], row["retry_count"], row["reason"]) == ("pending", 0, "keys_refused")


async def test_a_cap_pauses_the_run_and_ends_it_after_give_up(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.target.cap_exceeded = True
    await bench.discover()
    with pytest.raises(AccountStoppedError, match="Caps & Alerts"):
        await bench.run(polyb2_give_up=1.5)
    row = await bench.row(SMALL)
    assert (row["status"], row["retry_count"], row["reason"]) == ("pending", 0, "cap_exceeded")


async def test_a_cap_that_is_lifted_lets_the_run_go_on(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.target.cap_exceeded = True

    def lift() -> None:
        bench.box.target.cap_exceeded = False

    bench.box.target.inject(Fault("list", Call(lift), skip=1))
    result = await bench.mirror_all(polyb2_give_up=30.0)
    assert result.outcome.completed == 1


async def test_an_outage_of_a_side_burns_no_retries_and_is_survived(bench: Bench) -> None:
    for day in range(1, 6):
        bench.box.source.put(key(f"2024-01-0{day}"), b"x")
    await bench.discover()
    await bench.box.target.stop()

    async def back() -> None:
        if bench.box.target._runner is None:
            await bench.box.target.start()

    bench.box.source.inject(Fault("get", Call(back), skip=12, times=0))
    result = await bench.run()
    assert result.outcome.completed == 5
    assert {row["retry_count"] for row in (await bench.rows()).values()} == {0}


async def test_an_outage_that_lasts_ends_the_run(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.discover()
    await bench.box.source.stop()
    with pytest.raises(AccountStoppedError, match="gave up"):
        await bench.run(polyb2_give_up=1.5)


async def test_a_listing_that_fails_does_not_end_a_sync(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    failing = bench.box.source.inject(Fault("list", Answer(503, "ServiceUnavailable"), times=2))
    result = await bench.run(named_dates(["2024-01-02"]), polyb2_part_tries=1)
    assert (failing.hits, result.outcome.completed) == (2, 1)


async def test_a_listing_that_fails_for_long_ends_a_sync(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.box.source.stop()
    with pytest.raises(AccountStoppedError, match=r"gave up after 2s.*list"):
        await bench.run(named_dates(["2024-01-02"]), polyb2_part_tries=1, polyb2_give_up=1.5)


async def test_a_dataset_outside_the_plan_holds_nobody_up(bench: Bench) -> None:
    for day in range(1, 10):
        bench.box.source.put(key(f"2024-01-0{day}", "us_indices/day_aggs_v1"), b"x")
        bench.box.source.put(key(f"2024-01-0{day}"), b"y")
    bench.box.source.entitled = lambda name: name.startswith("us_stocks_sip/")
    result = await bench.mirror_all(polyb2_concurrency=2)
    assert (result.outcome.completed, len(result.outcome.unfinished)) == (9, 9)


async def test_ancestor_a_listing_error_is_an_error_and_queues_nothing(bench: Bench) -> None:
    """The ancestor read any listing error as "no files", exit 0."""
    bench.box.source.put(SMALL, b"x")
    bench.box.source.inject(Fault("list", Answer(403, "AccessDenied"), times=0))
    ended = await bench.cli("discover", "--dates", "2024-01-02", "--dataset", "us_stocks_sip/day_aggs_v1")
    assert ended.code == 4
    assert "check POLYGON_S3_ACCESS_KEY_ID" in ended.err
    assert "Traceback" not in ended.err


def void(_value: object) -> None:
    """A callback's result that is never retrieved."""


@pytest.mark.parametrize("operation", ["list", "create", "head", "list_uploads", "list_parts"])
async def test_a_proxys_page_with_status_200_is_no_answer(bench: Bench, operation: str) -> None:
    """It parses as XML without anything in it, which must not read as "no files"."""
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    if operation == "list":
        for skip in range(3):
            page = bench.box.source.inject(Fault("list", Answer(200, html=True), skip=skip))
            report = await bench.discover()
            assert (report.gone, report.total("unchanged"), page.hits) == (0, 1, 1)
    else:
        failing = Fault("upload_part", Answer(500, "InternalError"), part=2, times=0)
        bench.box.target.inject(failing)
        await bench.run(limit=1, polyb2_part_tries=1)
        failing.times = -1
        bench.box.target.inject(Fault(operation, Answer(200, html=True)))
    assert (await bench.run()).outcome.completed == 1
    bench.assert_mirrored(LARGE)
    bench.assert_clean()


async def test_an_etag_that_was_bent_on_its_way_is_not_what_the_row_keeps(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.target.inject(Fault("put", Shape(other_etag)))
    await bench.mirror_all()
    current = bench.box.target.current(SMALL)
    assert current is not None
    row = await bench.row(SMALL)
    assert (row["dest_etag"], row["verification"]) == (current.etag, "etag")


async def test_a_source_that_knows_no_if_match_is_read_without_it(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"row\n" * 5000)
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB), part_bytes=5 * MIB)
    bench.box.source.inject(Fault("get", Answer(501, "NotImplemented")))
    result = await bench.mirror_all()
    assert result.outcome.unfinished == {}
    bench.assert_mirrored(SMALL)
    bench.assert_mirrored(LARGE)
    assert [item.status for item in bench.box.source.requests if item.operation == "get"].count(501) == 1


async def test_a_composite_of_one_part_proves_a_file_that_is_sent_as_one(bench: Bench) -> None:
    bench.box.source.put(SMALL, GeneratedGzip(2 * MIB), part_bytes=4 * MIB)
    await bench.mirror_all()
    bench.assert_mirrored(SMALL)
    assert (await bench.row(SMALL))["verification"] == "etag"


async def test_a_listing_that_does_not_say_whether_it_is_cut_is_whole(bench: Bench) -> None:
    def forget(reply: Reply) -> None:
        assert isinstance(reply.body, bytes)
        reply.body = reply.body.replace(b"<IsTruncated>false</IsTruncated>", b"")
        reply.length = len(reply.body)

    bench.box.source.put(SMALL, b"x")
    for server in (bench.box.source, bench.box.target):
        server.inject(Fault("list", Shape(forget), times=0))
    await bench.mirror_all()
    bench.assert_mirrored(SMALL)


async def test_a_file_whose_parts_back_off_does_not_wait_for_them_with_the_only_slot(bench: Bench) -> None:
    """Part 2 backs off for longer than part 1, whose stream then has nothing left to send: part 2 must get it."""
    bench.box.source.put(LARGE, GeneratedGzip(10 * MIB))
    for part, seconds in ((1, "1"), (2, "2")):
        busy = Answer(503, "ServiceUnavailable", headers={"Retry-After": seconds})
        bench.box.target.inject(Fault("upload_part", busy, part=part))
    async with asyncio.timeout(30):
        result = await bench.mirror_all(polyb2_concurrency=1)
    assert result.outcome.completed == 1
    bench.assert_mirrored(LARGE)
