"""From a listing to proven bytes in the bucket, in process, over real sockets."""

from __future__ import annotations

import gzip
import hashlib
import os
import time
from typing import Any

import pytest

from polyb2 import __version__
from polyb2.clock import Clock
from polyb2.core.selection import daily, named_dates
from polyb2.ledger.ledger import Ledger
from polyb2.sandbox import Call, Fault, GeneratedGzip, Reset
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key, until

SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)


async def test_small_and_large_files_arrive_byte_for_byte(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"small file")
    bench.box.source.put(LARGE, GeneratedGzip(17 * MIB))
    result = await bench.mirror_all()
    assert (result.outcome.completed, result.outcome.unfinished) == (2, {})
    bench.assert_mirrored(SMALL)
    bench.assert_mirrored(LARGE)
    bench.assert_clean()


async def test_a_small_file_takes_one_get_and_one_put(bench: Bench) -> None:
    for day in range(1, 21):
        bench.box.source.put(key(f"2024-01-{day:02}"), os.urandom(20_000))
    await bench.discover()
    bench.box.source.requests.clear()
    bench.box.target.requests.clear()
    await bench.run()
    assert bench.box.source.count() == bench.box.source.count("get") == 20
    assert bench.box.target.count() - bench.box.target.count("list_uploads") == bench.box.target.count("put") == 20


async def test_a_second_discover_and_run_transfer_nothing(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"small file")
    bench.box.source.put(LARGE, GeneratedGzip(12 * MIB))
    await bench.mirror_all()
    gets, puts = bench.box.source.count("get"), bench.box.target.count("put")
    report = await bench.discover()
    result = await bench.run()
    assert (report.total("queued"), report.total("unchanged"), result.outcome.claimed) == (0, 2, 0)
    assert (bench.box.source.count("get"), bench.box.target.count("put")) == (gets, puts)


@pytest.mark.parametrize(
    ("size", "part_bytes", "opaque", "proof"),
    [
        (1000, None, None, "etag"),
        (1000, None, "any-token", "parts"),
        (1000, 8 * MIB, None, "etag"),
        (0, None, None, "etag"),
        (6 * MIB, None, "any-token", "parts"),
        (16 * MIB, None, None, "parts"),
        (16 * MIB, 5 * MIB, None, "etag"),
        (16 * MIB, 7 * MIB, None, "parts"),
    ],
    ids=["md5", "opaque", "composite of one", "empty", "opaque one part", "large md5", "composite", "other parts"],
)
async def test_the_proof_follows_from_the_etag(
    bench: Bench, size: int, part_bytes: int | None, opaque: str | None, proof: str
) -> None:
    data = os.urandom(size)
    bench.box.source.put(SMALL, data, part_bytes=part_bytes, opaque_etag=opaque)
    await bench.mirror_all()
    row = await bench.row(SMALL)
    assert (row["status"], row["verification"]) == ("completed", proof)
    assert bench.stored(SMALL) == data


@pytest.mark.parametrize("etag", ["with a space", "größe-テスト", 'a"b%20=?c'])
async def test_any_text_may_be_a_sources_etag(bench: Bench, etag: str) -> None:
    """It is stored as our metadata, compared after each Complete, and lets a lost ledger be adopted again."""
    bench.box.source.put(SMALL, b"small file", opaque_etag=etag)
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB), opaque_etag=etag)
    result = await bench.mirror_all()
    assert (result.outcome.completed, result.outcome.unfinished) == (2, {})
    assert [len(bench.box.target.versions(name)) for name in (SMALL, LARGE)] == [1, 1]
    bench.assert_mirrored(LARGE)
    for file in bench.folder.glob("ledger.db*"):
        file.unlink()
    assert (await bench.discover()).total("adopted") == 2


async def test_the_source_part_size_is_taken_over_where_it_is_told(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(20 * MIB), part_bytes=6 * MIB)
    await bench.mirror_all(polyb2_part_size=None)
    assert (await bench.row(LARGE))["verification"] == "etag"
    current = bench.box.target.current(LARGE)
    assert current is not None
    assert current.etag == bench.box.source.object(LARGE).etag


async def test_an_untold_part_size_is_proven_by_its_parts(bench: Bench) -> None:
    bench.box.source.answers_part_number = False
    bench.box.source.put(LARGE, GeneratedGzip(20 * MIB), part_bytes=6 * MIB)
    await bench.mirror_all()
    assert (await bench.row(LARGE))["verification"] == "parts"


async def test_metadata_tells_whose_object_it_is(bench: Bench) -> None:
    source = bench.box.source.put(SMALL, b"x", last_modified_s=1_700_000_000.25)
    bench.box.source.put(LARGE, GeneratedGzip(12 * MIB))
    await bench.mirror_all()
    for name in (SMALL, LARGE):
        current = bench.box.target.current(name)
        assert current is not None
        assert len(current.metadata["polyb2-token"]) == 32
        assert current.metadata["polyb2-proof"] == "before"
        assert current.metadata["polyb2-version"] == __version__
        assert current.metadata["polyb2-source-etag"] == bench.box.source.object(name).etag
    current = bench.box.target.current(SMALL)
    assert current is not None
    assert current.metadata["mtime"] == "1700000000.250"
    assert current.metadata["src_last_modified_millis"] == "1700000000250"
    assert current.metadata["polyb2-source-etag"] == source.etag


@pytest.mark.parametrize("dataset", ["us stocks/day aggs", "a+b/c%20d", "größe/テスト", "q?x/y&z=1", "~._-/a*b"])
async def test_any_key_of_the_layout_is_carried_unchanged(bench: Bench, dataset: str) -> None:
    name = key("2024-01-02", dataset)
    bench.box.source.put(name, b"data of " + dataset.encode())
    large = key("2024-01-03", dataset)
    bench.box.source.put(large, GeneratedGzip(11 * MIB))
    await bench.mirror_all(b2_key_prefix="my mirror+/")
    assert bench.stored("my mirror+/" + name) == b"data of " + dataset.encode()
    assert bench.stored("my mirror+/" + large) == bench.original(large)


async def test_an_object_with_content_encoding_arrives_as_it_is_stored(bench: Bench) -> None:
    data = gzip.compress(b"row\n" * 5000)
    bench.box.source.put(SMALL, data, content_encoding="gzip")
    await bench.mirror_all()
    assert bench.stored(SMALL) == data


async def test_ancestor_a_republished_file_becomes_a_new_version_and_the_old_one_stays(bench: Bench) -> None:
    """The ancestor kept no ETag and never noticed."""
    bench.box.source.put(SMALL, b"first")
    await bench.mirror_all()
    bench.box.source.put(SMALL, b"second")
    report = await bench.discover()
    assert (report.total("queued"), report.total("revised")) == (1, 1)
    row = await bench.row(SMALL)
    assert (row["status"], row["revision"], row["mirrored_revision"]) == ("pending", 2, 1)
    await bench.run()
    assert [item.read(0, 10) for item in bench.box.target.versions(SMALL)] == [b"first", b"second"]
    row = await bench.row(SMALL)
    assert (row["mirrored_revision"], row["mirrored_source_etag"]) == (2, hashlib.md5(b"second").hexdigest())


async def test_a_b_a_again_is_three_revisions(bench: Bench) -> None:
    for data in (b"A", b"B", b"A"):
        bench.box.source.put(SMALL, data)
        await bench.mirror_all()
    assert (await bench.row(SMALL))["revision"] == 3
    assert bench.stored(SMALL) == b"A"


async def test_a_changed_last_modified_alone_sends_nothing(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"same", last_modified_s=1_700_000_000)
    await bench.mirror_all()
    bench.box.source.put(SMALL, b"same", last_modified_s=1_800_000_000)
    report = await bench.discover()
    assert report.total("queued") == 0
    assert (await bench.row(SMALL))["source_last_modified"] == "2027-01-15T08:00:00.000Z"


async def test_a_deleted_ledger_is_rebuilt_by_adoption(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"small")
    bench.box.source.put(LARGE, GeneratedGzip(12 * MIB))
    bench.box.source.put(key("2024-01-04"), b"opaque", opaque_etag="tok")
    await bench.mirror_all()
    for file in bench.folder.glob("ledger.db*"):
        file.unlink()
    gets = bench.box.source.count("get")
    report = await bench.discover()
    result = await bench.run()
    assert (report.total("adopted"), report.total("queued"), result.outcome.claimed) == (3, 0, 0)
    assert bench.box.source.count("get") == gets
    rows = await bench.rows()
    assert {name: row["verification"] for name, row in rows.items()} == {
        SMALL: "etag",
        LARGE: "parts",
        key("2024-01-04"): "parts",
    }


async def test_what_lies_in_the_bucket_and_differs_is_not_adopted(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"truth")
    await bench.box.target.store(SMALL, b"false")
    await bench.box.target.store(key("2024-01-03"), b"x", {"polyb2-source-etag": "e", "polyb2-proof": "before"})
    bench.box.source.put(key("2024-01-03"), b"y", opaque_etag="other")
    report = await bench.discover()
    assert (report.total("adopted"), report.total("queued")) == (0, 2)
    await bench.run()
    bench.assert_mirrored(SMALL)


async def test_adoption_lists_the_bucket_only_where_keys_are_new(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"small")
    await bench.mirror_all()
    lists = bench.box.target.count("list")
    await bench.discover()
    assert bench.box.target.count("list") == lists


async def test_an_unproven_object_is_read_back_before_it_is_adopted(bench: Bench) -> None:
    data = GeneratedGzip(11 * MIB)
    source = bench.box.source.put(LARGE, data, part_bytes=6 * MIB)
    marks = {"polyb2-source-etag": source.etag, "polyb2-proof": "readback"}
    await bench.box.target.store(LARGE, data.read(0, data.size), marks)
    assert (await bench.discover()).total("adopted") == 1
    assert (await bench.row(LARGE))["verification"] == "readback"


async def test_an_unproven_object_with_other_bytes_is_sent_again(bench: Bench) -> None:
    data = GeneratedGzip(11 * MIB)
    source = bench.box.source.put(LARGE, data, part_bytes=6 * MIB)
    marks = {"polyb2-source-etag": source.etag, "polyb2-proof": "readback"}
    await bench.box.target.store(LARGE, b"\0" * data.size, marks)
    assert (await bench.discover()).total("adopted") == 0
    await bench.run()
    bench.assert_mirrored(LARGE)


async def test_a_target_whose_etags_are_no_md5s_is_read_back(bench: Bench) -> None:
    bench.box.target.etags = "opaque"
    bench.box.source.put(SMALL, b"small")
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB))
    await bench.mirror_all()
    assert {row["verification"] for row in (await bench.rows()).values()} == {"readback"}
    bench.assert_mirrored(LARGE)
    bench.assert_clean()
    current = bench.box.target.current(LARGE)
    assert current is not None
    assert current.metadata["polyb2-proof"] == "readback"


async def test_what_is_known_of_the_target_outlives_the_process_and_is_corrected(bench: Bench) -> None:
    bench.box.target.etags = "opaque"
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.mirror_all()
    assert bench.box.target.count("create") == 2
    bench.box.source.put(key("2024-01-04", QUOTES), GeneratedGzip(11 * MIB, seed=1))
    await bench.mirror_all()
    assert bench.box.target.count("create") == 3
    bench.box.target.etags = "md5"
    bench.box.source.put(SMALL, b"small")
    await bench.mirror_all()
    bench.box.source.put(key("2024-01-05", QUOTES), GeneratedGzip(11 * MIB, seed=2))
    await bench.mirror_all()
    assert (await bench.row(key("2024-01-05", QUOTES)))["verification"] == "parts"


async def test_a_large_file_alone_shows_that_the_target_has_md5s_after_all(bench: Bench) -> None:
    bench.box.target.etags = "opaque"
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.mirror_all()
    bench.box.target.etags = "md5"
    proofs = []
    for day in ("2024-01-04", "2024-01-05"):
        bench.box.source.put(key(day, QUOTES), GeneratedGzip(11 * MIB, seed=int(day[-1])))
        await bench.mirror_all()
        proofs.append((await bench.row(key(day, QUOTES)))["verification"])
    assert proofs == ["readback", "parts"]


async def test_pacing_is_no_stall(bench: Bench) -> None:
    for day in range(1, 7):
        bench.box.source.put(key(f"2024-01-{day:02}"), b"x")
    await bench.discover()
    result = await bench.run(polyb2_source_rps=8, polyb2_b2_rps=8, polyb2_stall_timeout=0.3, polyb2_part_tries=1)
    assert result.outcome.completed == 6
    assert {row["attempt"] for row in (await bench.rows()).values()} == {1}


async def test_sync_mirrors_while_it_lists(bench: Bench) -> None:
    for day in range(1, 10):
        bench.box.source.put(key(f"2024-01-{day:02}"), os.urandom(1000))
    result = await bench.run(named_dates(["2024-01-01..2024-01-05"], (DAY_AGGS,)))
    assert result.report is not None
    assert (result.report.total("queued"), result.outcome.completed) == (5, 5)


async def test_a_run_that_lost_its_lease_goes_on_with_a_new_one(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The process is suspended for longer than its lease; its files are not left behind, and are logged once."""
    for day in range(1, 6):
        bench.box.source.put(key(f"2024-01-{day:02}"), b"x" * 1000)
    await bench.discover()
    bench.box.source.inject(Fault("get", Call(lambda: time.sleep(1.2))))
    assert (await bench.run(polyb2_lease_seconds=1.0)).outcome.completed == 5
    bench.assert_mirrored(key("2024-01-05"))
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


async def test_a_file_that_is_being_settled_holds_no_stream(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one slot the second file is in transfer before the first one's row is written."""
    for day in (1, 2):
        bench.box.source.put(key(f"2024-01-{day:02}"), b"x" * 1000)
    await bench.discover()
    complete = Ledger.complete

    async def complete_late(ledger: Ledger, *given: Any) -> bool:
        await until(lambda: bench.box.source.count("get") == 2)
        return await complete(ledger, *given)

    monkeypatch.setattr(Ledger, "complete", complete_late)
    assert (await bench.run(polyb2_concurrency=1)).outcome.completed == 2


async def test_limit_claims_that_many_files(bench: Bench) -> None:
    for day in range(1, 10):
        bench.box.source.put(key(f"2024-01-{day:02}"), os.urandom(1000))
    await bench.discover()
    assert (await bench.run(limit=3)).outcome.claimed == 3


async def test_ancestor_daily_looks_back_across_months_by_us_eastern_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ancestor took yesterday by the local clock and left out the month folder."""
    monkeypatch.setenv("POLYB2_FAKE_NOW", "2024-03-02T02:00:00+00:00")
    assert Clock().today().isoformat() == "2024-03-01"
    for day in ("2024-02-22", "2024-02-23", "2024-02-29", "2024-03-01", "2024-03-02"):
        bench.box.source.put(key(day), day.encode())
    await bench.discover(daily(Clock().today(), 7, (DAY_AGGS,)))
    assert sorted(row["date"] for row in (await bench.rows()).values()) == ["2024-02-23", "2024-02-29", "2024-03-01"]
    listed = {item.key for item in bench.box.source.requests}
    assert listed == {""}


async def test_a_replaced_small_file_costs_its_put_and_one_look(bench: Bench) -> None:
    """A new revision is no takeover: HEAD before settling is the proof; nothing else is there to be found."""
    files = [key(f"2024-01-{day:02}") for day in range(1, 11)]
    for revision in range(3):
        for name in files:
            bench.box.source.put(name, f"{name} {revision}".encode())
        await bench.discover()
        bench.box.target.requests.clear()
        await bench.run()
        asked = {item.operation for item in bench.box.target.requests}
        counts = {operation: bench.box.target.count(operation) for operation in asked}
        assert counts == {"put": 10} if revision == 0 else {"put": 10, "head": 10}
    assert all(len(bench.box.target.versions(name)) == 3 for name in files)


async def test_a_replaced_file_whose_last_attempt_failed_is_looked_for_strangers(bench: Bench) -> None:
    """Its Create may have been lost; as no attempt at the new revision was made, no HEAD comes first."""
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    bench.box.target.inject(Fault("create", Reset("after"), times=0))
    await bench.discover()
    await bench.run(limit=1, polyb2_part_tries=1, polyb2_retry_base=60.0)
    assert len(bench.box.target.open_uploads()) == 1
    bench.box.target.clear_faults()
    bench.box.source.put(LARGE, b"now it is small")
    bench.box.target.requests.clear()
    await bench.mirror_all()
    bench.assert_mirrored(LARGE)
    bench.assert_clean()
    asked = [item.operation for item in bench.box.target.requests if item.key == LARGE]
    assert asked == ["abort", "put", "head"]
