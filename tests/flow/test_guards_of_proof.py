"""Guards of the proof, each with the harm that it prevents: an arrived file alone shows nothing, as the engine heals."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from polyb2.core.errors import Kind, RemoteError
from polyb2.core.selection import EVERYTHING
from polyb2.flow.inspect.verify import verify
from polyb2.sandbox import Answer, Call, Fault, FlipBody, FlipStored, GeneratedGzip, Shape
from polyb2.sandbox.exchange import Reply
from polyb2.sandbox.multipart import Upload
from tests.conftest import MIB, QUOTES, Bench, key

SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)


async def _replaced(bench: Bench, name: str, first: bytes | GeneratedGzip, second: bytes | GeneratedGzip) -> None:
    """A file whose first revision is mirrored, and whose second one is queued."""
    bench.box.source.put(name, first)
    await bench.mirror_all()
    bench.assert_mirrored(name)
    bench.box.source.put(name, second)
    await bench.discover()


# -- publishing ---------------------------------------------------------------------------------------------------------


async def test_an_older_revision_is_not_taken_for_what_a_complete_without_effect_published(bench: Bench) -> None:
    await _replaced(bench, LARGE, GeneratedGzip(11 * MIB), GeneratedGzip(11 * MIB, seed=1))
    failed = bench.box.target.inject(Fault("complete", Answer(500, "InternalError")))
    await bench.run()
    assert failed.hits == 1
    bench.assert_mirrored(LARGE)
    assert len(bench.box.target.versions(LARGE)) == 2
    bench.assert_clean()


async def test_a_complete_is_noted_before_it_is_sent_so_that_a_slow_assembly_is_waited_for(bench: Bench) -> None:
    """The attempt ends after its Complete and before the object is shown; the next one must not send it again."""
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    bench.box.target.inject(Fault("head", Answer(500, "InternalError")))
    bench.box.target.inject(Fault("head", Answer(404, "NoSuchKey"), skip=1, times=2))
    await bench.mirror_all(polyb2_part_tries=1)
    assert (await bench.row(LARGE))["attempt"] == 2
    assert (bench.box.target.count("create"), len(bench.box.target.versions(LARGE))) == (1, 1)


async def test_a_small_file_of_a_new_revision_is_seen_before_it_is_settled(bench: Bench) -> None:
    """The older revision's PUT lands late, and is current."""
    await _replaced(bench, SMALL, b"older", b"newer")
    (older,) = bench.box.target.versions(SMALL)

    async def land() -> None:
        await bench.box.target.store(SMALL, b"older", older.metadata)

    late = bench.box.target.inject(Fault("put", Call(land, "after")))
    await bench.run()
    assert late.hits == 1
    versions = [item.read(0, item.size) for item in bench.box.target.versions(SMALL)]
    assert versions == [b"older", b"newer", b"older", b"newer"], "what is not ours was removed, or not noticed"


async def test_a_small_file_of_a_takeover_is_seen_before_it_is_settled(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"newer")
    bench.box.target.inject(Fault("put", Answer(500, "InternalError")))

    async def land() -> None:
        await bench.box.target.store(SMALL, b"older")

    late = bench.box.target.inject(Fault("put", Call(land, "after"), skip=1))
    await bench.mirror_all(polyb2_part_tries=1)
    assert late.hits == 1
    bench.assert_mirrored(SMALL)


# -- reading back -------------------------------------------------------------------------------------------------------


async def test_a_landed_upload_is_read_back_before_it_is_settled(bench: Bench) -> None:
    """The attempt ends after its Complete, before it read anything back; a bit was flipped on the way."""
    bench.box.target.etags = "opaque"
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    flipping = bench.box.target.inject(Fault("upload_part", FlipStored(), part=2, times=0))

    def stop_flipping() -> None:
        flipping.times = -1

    bench.box.target.inject(Fault("complete", Call(stop_flipping, "after")))
    bench.box.target.inject(Fault("head", Answer(500, "InternalError")))
    await bench.mirror_all(polyb2_part_tries=1)
    assert flipping.hits > 0
    bench.assert_mirrored(LARGE)
    assert (await bench.row(LARGE))["verification"] == "readback"
    assert len(bench.box.target.versions(LARGE)) == 1, "the flipped version is still there"


async def test_a_version_that_reads_back_wrong_is_removed(bench: Bench) -> None:
    bench.box.target.etags = "opaque"
    bench.box.source.put(SMALL, b"small")
    await bench.mirror_all()
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    flipped = bench.box.target.inject(Fault("upload_part", FlipStored(), part=2))
    await bench.mirror_all()
    assert flipped.hits == 1
    bench.assert_mirrored(LARGE)
    assert len(bench.box.target.versions(LARGE)) == 1


async def test_a_put_that_reads_back_wrong_is_removed(bench: Bench) -> None:
    """The target's ETags are no MD5s, and it compares no Content-MD5."""
    bench.box.target.etags, bench.box.target.checks_content_md5 = "opaque", False
    bench.box.source.put(SMALL, b"small")
    flipped = bench.box.target.inject(Fault("put", FlipStored()))
    await bench.mirror_all()
    assert flipped.hits == 1
    bench.assert_mirrored(SMALL)
    assert len(bench.box.target.versions(SMALL)) == 1


async def test_what_is_proven_after_publishing_says_so_of_itself(bench: Bench) -> None:
    """A ledger that is lost must not take it for proven: the process may have died in between."""
    bench.box.target.etags = "opaque"
    marks = []
    for name in (SMALL, key("2024-01-04")):
        bench.box.source.put(name, b"small")
        await bench.mirror_all()
        (version,) = bench.box.target.versions(name)
        marks.append(version.metadata["polyb2-proof"])
    assert marks == ["before", "readback"], "what the target is shows with the first file"


async def test_two_reads_must_agree_to_outvote_the_etag(bench: Bench) -> None:
    """Three different flips in a row; the body of the fourth read would fit the hash of the second."""
    bench.box.source.put(SMALL, b"row\n" * 100)
    for number, place in enumerate((1, 2, 3, 2)):
        bench.box.source.inject(Fault("get", FlipBody(place), skip=number))
    await bench.mirror_all()
    bench.assert_mirrored(SMALL)
    assert (await bench.row(SMALL))["verification"] == "etag"


# -- hashes and composites ----------------------------------------------------------------------------------------------


async def test_part_1_is_hashed_also_where_a_composite_would_prove_all(bench: Bench) -> None:
    """An opaque target is known by part 1, not by sending, reading and sending the whole file again."""
    bench.box.target.etags = "opaque"
    bench.box.source.put(LARGE, GeneratedGzip(15 * MIB), part_bytes=5 * MIB)
    await bench.mirror_all(polyb2_concurrency=1)
    assert (bench.box.target.count("upload_part"), bench.box.source.count("get")) == (5, 5)
    assert (await bench.row(LARGE))["verification"] == "readback"


async def test_a_composite_of_other_parts_is_no_proof_to_be_tried(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(15 * MIB), part_bytes=6 * MIB)
    await bench.mirror_all()
    assert (await bench.row(LARGE))["verification"] == "parts"
    assert bench.box.source.count("get") == 3, "the source was read again to repair a proof that could not hold"


async def test_a_part_size_is_believed_only_of_this_very_revision(bench: Bench) -> None:
    def other_etag(reply: Reply) -> None:
        reply.headers["ETag"] = f'"{"0" * 32}-3"'

    bench.box.source.put(LARGE, GeneratedGzip(20 * MIB), part_bytes=7 * MIB)
    bench.box.source.inject(Fault("head", Shape(other_etag), times=0))
    await bench.mirror_all(polyb2_part_size=None)
    assert (await bench.row(LARGE))["verification"] == "parts"


async def test_receipts_belong_to_one_revision(bench: Bench) -> None:
    """The second revision was one PUT: the first one's parts say nothing about it."""
    await _replaced(bench, LARGE, GeneratedGzip(11 * MIB), b"second")
    await bench.run()
    bench.box.source.put(LARGE, b"the third is not mirrored")
    async with bench.open() as mirror:
        findings = await verify(mirror, EVERYTHING, deep=True)
    assert [item.kind for item in findings.differences] == ["stale"]


# -- what the source answers --------------------------------------------------------------------------------------------


def _shifted(reply: Reply) -> None:
    """Other bytes of the right length, truly named."""
    read, length = reply.body, reply.length
    assert callable(read)
    span, _, size = reply.headers["Content-Range"].removeprefix("bytes ").partition("/")
    first, _, last = span.partition("-")
    reply.headers["Content-Range"] = f"bytes {int(first) - 7}-{int(last) - 7}/{size}"
    reply.body = lambda offset, count: read(offset - 7, count)
    reply.length = length


async def test_other_bytes_of_the_right_length_are_not_passed_on(bench: Bench) -> None:
    bench.box.source.put(LARGE, GeneratedGzip(16 * MIB))
    shifted = bench.box.source.inject(Fault("get", Shape(_shifted), skip=1))
    await bench.mirror_all(polyb2_concurrency=1)
    assert shifted.hits == 1
    bench.assert_mirrored(LARGE)


@pytest.mark.parametrize("status", [200, 206])
async def test_bytes_without_a_range_are_not_the_range(bench: Bench, status: int) -> None:
    """As many bytes as were asked for, from the beginning of the file, and nothing that says which they are."""

    def first_bytes(reply: Reply) -> None:
        read = reply.body
        assert callable(read)
        start = int(reply.headers.pop("Content-Range").removeprefix("bytes ").partition("-")[0])
        reply.status, reply.body = status, lambda offset, count: read(offset - start, count)

    bench.box.source.put(LARGE, GeneratedGzip(15 * MIB))
    bent = bench.box.source.inject(Fault("get", Shape(first_bytes), skip=1))
    await bench.mirror_all(polyb2_concurrency=1)
    assert bent.hits == 1
    bench.assert_mirrored(LARGE)


async def test_a_file_replaced_by_one_of_its_size_is_never_mixed(bench: Bench) -> None:
    """The source ignores If-Match, and the ranges fit both."""
    first, second = os.urandom(11 * MIB), os.urandom(11 * MIB)
    bench.box.source.honours_if_match = False
    bench.box.source.put(LARGE, first)

    def replace() -> None:
        bench.box.source.put(LARGE, second)

    bench.box.source.inject(Fault("get", Call(replace), skip=1))
    await bench.mirror_all(polyb2_concurrency=1)
    assert [item.read(0, item.size) for item in bench.box.target.versions(LARGE)] == [second]
    assert (await bench.row(LARGE))["revision"] == 2


async def test_every_read_names_its_revision(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"first")
    await bench.discover()
    bench.box.source.put(SMALL, b"second")
    await bench.run()
    assert [item.status for item in bench.box.source.requests if item.operation == "get"] == [412, 200]


# -- what the target answers --------------------------------------------------------------------------------------------


async def test_a_refused_head_of_an_object_that_exists_is_not_its_absence(bench: Bench) -> None:
    await bench.box.target.store(SMALL, b"there")
    bench.box.target.inject(Fault("head", Answer(403, "AccessDenied"), times=0))
    async with bench.open() as mirror:
        with pytest.raises(RemoteError) as caught:
            await mirror.target.head(SMALL)
    assert caught.value.kind in {Kind.FORBIDDEN, Kind.NOT_PERMITTED}


@pytest.mark.parametrize("made", [lambda name: name + ".bak", lambda name: name[:-3]], ids=["longer", "shorter"])
async def test_only_uploads_of_this_very_key_are_aborted(bench: Bench, made: Callable[[str], str]) -> None:
    neighbour = Upload(made(LARGE))
    bench.box.target._uploads[neighbour.upload_id] = neighbour
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.mirror_all()
    assert bench.box.target.open_uploads() == [neighbour]
    assert bench.box.target.count("abort") == 0
