"""The proofs that verify accepts, and the places where it looks."""

from __future__ import annotations

import asyncio
import gzip
import os
import re

import pytest

from polyb2.core.errors import RemoteError, UsageError
from polyb2.core.selection import EVERYTHING, Selection, historical
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.inspect.verify import Findings, verify
from polyb2.notify.messages import verified as news_of
from polyb2.sandbox import Answer, Call, Delay, Fault, GeneratedGzip, Reset, Shape
from polyb2.sandbox.exchange import Reply
from polyb2.sandbox.versions import Version
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key

SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)


async def verified(bench: Bench, selection: Selection = EVERYTHING, *, deep: bool = False) -> Findings:
    async with bench.open(read_only=True) as mirror:
        return await verify(mirror, selection, deep=deep)


def kinds(findings: Findings) -> list[str]:
    return [difference.kind for difference in findings.differences]


def damage(version: Version | None, at: int = 0) -> None:
    """A bit that the store lost; its ETag is unchanged."""
    assert version is not None
    assert version.blobs
    blob = version.blobs[-1]
    data = bytearray(blob.read(0, blob.size))
    data[at] ^= 1
    object.__setattr__(blob, "data", bytes(data))


async def test_an_object_that_another_wrote_is_not_right_because_its_metadata_say_so(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"right")
    await bench.mirror_all()
    ours = bench.box.target.current(SMALL)
    assert ours is not None
    await bench.box.target.store(SMALL, b"wrong", ours.metadata)
    assert kinds(await verified(bench)) == ["etag"]


@pytest.mark.parametrize("listed", [True, False], ids=["source has it", "source lost it"])
@pytest.mark.parametrize("part_bytes", [None, 5 * MIB], ids=["parts", "etag"])
@pytest.mark.parametrize("name", [SMALL, LARGE], ids=["small", "large"])
async def test_deep_finds_a_lost_bit(bench: Bench, name: str, part_bytes: int | None, listed: bool) -> None:
    data = os.urandom(1000 if name == SMALL else 11 * MIB)
    bench.box.source.put(name, data, part_bytes=part_bytes)
    await bench.mirror_all()
    if not listed:
        bench.box.source.remove(name)
    gone = [] if listed else ["source_gone"]
    assert kinds(await verified(bench, deep=True)) == gone
    damage(bench.box.target.current(name), 50)
    assert kinds(await verified(bench)) == gone
    assert kinds(await verified(bench, deep=True)) == [*gone, "content"]


async def test_extra_objects_are_found_by_an_empty_ledger_and_none_is_made(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.box.target.store(SMALL, b"x")
    await bench.box.target.store(key("2024-01-02", "us_stocks_sip/forgotten_v1"), b"y")
    await bench.box.target.store(key("2024-01-02", "somebody/else"), b"z")
    found = await verified(bench)
    assert [(item.key, item.kind) for item in found.differences] == [
        (SMALL, "extra"),
        (key("2024-01-02", "us_stocks_sip/forgotten_v1"), "extra"),
    ]
    assert list(bench.folder.iterdir()) == []


async def test_a_pattern_that_names_nothing_is_wrong_usage(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.mirror_all()
    with pytest.raises(UsageError, match="did you mean us_stocks_sip/day_aggs_v1"):
        await verified(bench, historical(None, None, ("us_stocks_sip/day_agg_v1",)))
    assert (await verified(bench, historical(None, None, (DAY_AGGS,)))).checked == 1


async def test_repair_counts_what_it_queued(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"old")
    await bench.mirror_all()
    bench.box.source.put(SMALL, b"newer")
    async with bench.open() as mirror:
        found = await verify(mirror, EVERYTHING, mend=True)
        again = await verify(mirror, EVERYTHING, mend=True)
    assert (kinds(found), found.repaired) == (["stale"], 1)
    assert (kinds(again), again.repaired) == (["stale"], 0), "it is queued already"


async def test_differences_are_told_as_they_are_found_and_only_some_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyb2.flow.inspect.verify.KEPT_MAX", 2)
    names = [key(f"2024-01-0{day}") for day in range(2, 6)]
    for name in names:
        bench.box.source.put(name, b"x")
    await bench.mirror_all()
    for name in names:
        bench.box.source.put(name, b"newer")
    told: list[str] = []
    async with bench.open(read_only=True) as mirror:
        found = await verify(mirror, EVERYTHING, tell=lambda difference: told.append(difference.key))
    assert (told, found.found, [item.key for item in found.differences]) == (names, 4, names[:2])
    shown = (await bench.cli("verify", "--json")).json()
    assert [item["key"] for item in shown["differences"]] == names
    assert (shown["checked"], shown["repaired"], shown["damaged_at_source"]) == (4, 0, [])
    assert [news.line for news in news_of(found)][-1] == "verify: 2 more"


async def test_deep_tells_a_gzip_stream_that_is_broken_at_the_source_already(bench: Bench) -> None:
    whole = gzip.compress(os.urandom(5000))
    bench.box.source.put(SMALL, whole)
    bench.box.source.put(key("2024-01-04"), whole[:-9])
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB), part_bytes=5 * MIB)
    await bench.mirror_all()
    bench.box.target.inject(Fault("get", Reset("middle", 1000), key=LARGE))
    found = await verified(bench, deep=True)
    assert (kinds(found), found.damaged_at_source) == ([], [key("2024-01-04")])


async def test_of_files_that_are_damaged_at_the_source_only_some_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyb2.flow.inspect.verify.KEPT_MAX", 2)
    names = [key(f"2024-01-0{day}") for day in range(2, 6)]
    for name in names:
        bench.box.source.put(name, gzip.compress(name.encode())[:-9])
    await bench.mirror_all()
    found = await verified(bench, deep=True)
    assert (found.damaged, found.damaged_at_source) == (4, names[:2])
    assert found.rest_as_json()["damaged_at_source_total"] == 4


async def test_deep_reads_several_files_at_once_and_tells_them_in_order(bench: Bench) -> None:
    names = [key(f"2024-01-{day:02}") for day in range(2, 12)]
    for number, name in enumerate(names):
        bench.box.source.put(name, b"row\n" * (number + 1))
    await bench.mirror_all()
    for name in names[::3]:
        damage(bench.box.target.current(name))
    target, at_once = bench.box.target, [0]
    target.inject(Fault("get", Delay(0.2), times=0))
    target.inject(Fault("get", Delay(0.4), key=names[0], times=0))
    target.inject(Fault("get", Call(lambda: at_once.append(target.in_flight)), times=0))
    found = await verified(bench, deep=True)
    assert [item.key for item in found.differences] == names[::3]
    assert max(at_once) >= 5


async def test_a_deep_verification_that_fails_leaves_nothing_running(bench: Bench) -> None:
    names = [key(f"2024-01-{day:02}") for day in range(2, 12)]
    for name in names:
        bench.box.source.put(name, b"x")
    await bench.mirror_all()
    bench.box.target.inject(Fault("get", Answer(403, "InvalidAccessKeyId"), key=names[0], times=0))
    bench.box.target.inject(Fault("get", Delay(30), times=0))
    before = asyncio.all_tasks()
    async with bench.open(read_only=True) as mirror:
        with pytest.raises(RemoteError, match="InvalidAccessKeyId"):
            await verify(mirror, EVERYTHING, deep=True)
        assert not [task for task in asyncio.all_tasks() - before if "_deepened" in repr(task)]


async def test_deep_trusts_gzip_where_nothing_else_is_left_to_compare_with(bench: Bench) -> None:
    """Adopted by its metadata, with ETags that say nothing, and gone from the source."""
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB), part_bytes=6 * MIB, opaque_etag="token")
    await bench.mirror_all()
    for file in bench.folder.glob("ledger.db*"):
        file.unlink()
    assert (await bench.discover()).total("adopted") == 1
    bench.box.source.remove(LARGE)
    assert kinds(await verified(bench, deep=True)) == ["source_gone"]
    damage(bench.box.target.current(LARGE), 60)
    assert kinds(await verified(bench, deep=True)) == ["source_gone", "content"]


@pytest.mark.parametrize("becomes", ["replaced", "taken away", "locked"])
async def test_deep_goes_on_when_the_source_changes_under_it(bench: Bench, becomes: str) -> None:
    """Listed, and gone when it is read for comparison: the record is compared with, and then the next file."""
    source = bench.box.source
    for name in (SMALL, key("2024-01-04")):
        source.put(name, os.urandom(1000), opaque_etag=f"token-{name}")
    await bench.mirror_all()
    damage(bench.box.target.current(key("2024-01-04")))

    def change() -> None:
        if becomes == "replaced":
            source.put(SMALL, b"newer", opaque_etag="another")
        elif becomes == "taken away":
            source.remove(SMALL)
        else:
            source.entitled = lambda wanted: wanted != SMALL

    source.inject(Fault("get", Call(change), key=SMALL))
    found = await verified(bench, deep=True)
    assert [(item.key, item.kind) for item in found.differences] == [(key("2024-01-04"), "content")]


async def test_an_object_to_repair_that_is_taken_out_of_the_queue_is_not_completed_again(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"right")
    await bench.mirror_all()
    await bench.box.target.store(SMALL, b"of another", {})
    assert (await bench.cli("verify", "--repair")).code == 3
    assert "0 files taken out" in (await bench.cli("unqueue")).out
    assert (await bench.row(SMALL))["status"] == "pending"
    await bench.run()
    bench.assert_mirrored(SMALL)


async def test_repair_is_advised_only_where_it_would_queue_something(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.mirror_all()
    await bench.box.target.store(key("2024-01-09"), b"of another", {})
    assert "--repair" not in (await bench.cli("verify")).out
    bench.box.source.put(SMALL, b"newer")
    assert "--repair queues what differs" in (await bench.cli("verify")).out


def bent_order(reply: Reply) -> None:
    """A listing from its end to its beginning."""
    assert isinstance(reply.body, bytes)
    xml = reply.body.decode()
    entries = re.findall("<Contents>.*?</Contents>", xml, flags=re.DOTALL)
    reply.body = (re.sub("<Contents>.*</Contents>", "", xml, flags=re.DOTALL)).encode()
    reply.body = reply.body.replace(
        b"</ListBucketResult>", "".join(reversed(entries)).encode() + b"</ListBucketResult>"
    )
    reply.length = len(reply.body)


@pytest.mark.parametrize("sorted_max", [100, 1], ids=["sorted", "page by page"])
async def test_each_difference_is_found_wherever_it_lies_in_a_listing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, sorted_max: int
) -> None:
    monkeypatch.setattr("polyb2.flow.discover.listed.SORTED_MAX", sorted_max)
    days = [key(f"2024-01-{day:02}") for day in (3, 5, 8, 10)]
    for name in days:
        bench.box.source.put(name, b"x")
    await bench.mirror_all()
    for day in (2, 4, 9, 11):
        await bench.box.target.store(key(f"2024-01-{day:02}"), b"of another")
    bench.box.source.put(key("2024-01-01"), b"that nobody chose")
    bench.box.source.remove(days[0])
    await bench.box.target.store(days[1], b"longer than it was")
    bench.box.source.put(days[3], b"newer")
    found = await verified(bench)
    assert [(item.key[-9:-7], item.kind) for item in found.differences] == [
        ("02", "extra"), ("03", "source_gone"), ("04", "extra"), ("05", "size"), ("09", "extra"), ("10", "stale"),
        ("11", "extra"),
    ]  # fmt: skip
    assert found.checked == 4


async def test_a_listing_in_another_order_is_sorted_or_where_it_is_too_long_refused_by_name(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (2, 3, 4):
        bench.box.source.put(key(f"2024-01-0{day}"), b"x")
    await bench.mirror_all()
    bench.box.target.inject(Fault("list", Shape(bent_order), times=0))
    assert (kinds(found := await verified(bench)), found.checked) == ([], 3)
    monkeypatch.setattr("polyb2.flow.discover.listed.SORTED_MAX", 2)
    with pytest.raises(RemoteError, match=f"the listing of {DAY_AGGS}/ is not in the order of its keys"):
        await verified(bench)


async def test_a_revision_that_waits_for_a_yes_was_seen_and_verify_says_so(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"old")
    await bench.mirror_all()
    bench.box.source.put(SMALL, b"newer")
    assert "a newer one that no discovery has seen" in (await bench.cli("verify")).out
    async with bench.open() as mirror:
        await Discovery(mirror, EVERYTHING).queue(agreed=())
    assert "a newer one that is not queued until you agree" in (await bench.cli("verify")).out
