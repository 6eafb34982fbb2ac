"""Malformed listings: one bad entry, one endless listing, one odd name hold up nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest

from polyb2.core.errors import RemoteError, UsageError
from polyb2.core.selection import EVERYTHING, historical, named_dates, split_datasets
from polyb2.flow.discover import listed
from polyb2.flow.discover.consent import Consent
from polyb2.sandbox import Answer, Call, Fault
from polyb2.sandbox.exchange import Exchange, Reply
from polyb2.sandbox.faults import Action
from tests.conftest import DAY_AGGS, Bench, key

GOOD, BAD, LATER = key("2024-01-02"), key("2024-01-03"), key("2024-01-04")
OTHER = key("2024-01-02", "us_stocks_sip/trades_v1")
Bend = Callable[[str], str]


@dataclass(frozen=True)
class Bent(Action):
    """A listing's XML, bent; of one prefix where one is named."""

    bend: Bend
    prefix: str | None = None

    async def after(self, exchange: Exchange, reply: Reply) -> Reply:
        if self.prefix is None or exchange.query.get("prefix") == self.prefix:
            assert isinstance(reply.body, bytes)
            reply.body = self.bend(reply.body.decode()).encode()
            reply.length = len(reply.body)
        return reply


def of_the_bad_one(pattern: str, instead: str) -> Bend:
    """Replace something within the entry of the bad key."""

    def bend(xml: str) -> str:
        return re.sub(
            rf"(<Key>{re.escape(BAD)}</Key>.*?</Contents>)",
            lambda entry: re.sub(pattern, instead, entry[1]),
            xml,
            flags=re.DOTALL,
        )

    return bend


@pytest.mark.parametrize(
    ("pattern", "instead", "why"),
    [
        (r"<Size>\d+", "<Size>9223372036854775808", "9223372036854775808 bytes, more than the target holds"),
        (r"<Size>\d+", f"<Size>{10**40}", "more than the target holds"),
        (r"<Size>\d+", "<Size>-1", "lacks a valid size"),
        (r"<Size>\d+</Size>", "", "lacks a valid size"),
        (r"<Size>\d+", "<Size>many", "lacks a valid size"),
        (r"<Size>\d+", "<Size>", "lacks a valid size"),
        (r"<Size>\d+", f"<Size>{'9' * 5000}", "lacks a valid size"),
        (r"<Size>\d+</Size>", "<Size>1</Size><Size>2</Size>", "lacks a valid size"),
        (r"<LastModified>.*?<", "<LastModified>x<", "lacks a valid size, ETag or time"),
        (r"<LastModified>.*?<", "<LastModified><", "lacks a valid size, ETag or time"),
        (r"<LastModified>.*?<", f"<LastModified>{'9' * 400}<", "lacks a valid size, ETag or time"),
        (r"<LastModified>.*?<", "<LastModified>2024-01-03T99:04:05<", "lacks a valid size, ETag or time"),
        (r"<ETag>.*?</ETag>", "", "lacks a valid size, ETag"),
        (r"<ETag>.*?</ETag>", "<ETag>a&#13;b</ETag>", "lacks a valid size, ETag"),
        (r"<LastModified>.*?</LastModified>", "", "lacks a valid size, ETag or time"),
        (r"<LastModified>.*?</LastModified>", "<LastModified>yesterday</LastModified>", "ETag or time"),
        (r"<LastModified>.*?</LastModified>", "<LastModified>99999-01-01T00:00:00Z</LastModified>", "or time"),
    ],
)
async def test_one_entry_that_cannot_be_is_named_and_the_others_go_on(
    bench: Bench, pattern: str, instead: str, why: str
) -> None:
    for name in (GOOD, BAD, LATER, OTHER):
        bench.box.source.put(name, b"x")
    bench.box.source.inject(Fault("list", Bent(of_the_bad_one(pattern, instead)), times=0))
    result = await bench.run(EVERYTHING)
    assert result.report is not None
    assert result.report.as_json()["ignored"] == [BAD]
    assert why in result.report.as_json()["ignored_reasons"][BAD]
    assert set(await bench.rows()) == {GOOD, LATER, OTHER}
    for name in (GOOD, LATER, OTHER):
        bench.assert_mirrored(name)


@dataclass
class Endless:
    """Each page leads to a next one; the test provides its content."""

    shows: Bend = lambda xml: xml
    pages: count[int] = field(default_factory=count)

    def __call__(self, xml: str) -> str:
        token = base64.urlsafe_b64encode(b"from the beginning, %d" % next(self.pages)).decode()
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        return self.shows(re.sub("<IsTruncated>.*?</IsTruncated>", more, xml))


def nothing(xml: str) -> str:
    return re.sub("<(Contents|CommonPrefixes)>.*</\\1>", "", xml, flags=re.DOTALL)


def foreign() -> Bend:
    numbers = count()
    return lambda xml: re.sub("<Key>.*?</Key>", lambda _key: f"<Key>zzz{next(numbers):09}</Key>", xml)


@pytest.mark.parametrize(
    ("endless", "words"),
    [
        (Endless(), "does not end"),
        (Endless(nothing), "does not end"),
        (Endless(foreign()), "not its flat files"),
    ],
    ids=["the same keys", "no keys", "foreign keys"],
)
async def test_a_listing_without_end_is_refused_by_name_and_the_other_datasets_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, endless: Endless, words: str
) -> None:
    monkeypatch.setattr(listed, "STUCK_MAX", 5)
    monkeypatch.setattr(listed, "FOREIGN_MAX", 5)
    bench.box.source.put(GOOD, b"x")
    bench.box.source.put(OTHER, b"x")
    bench.box.source.inject(Fault("list", Bent(endless, f"{DAY_AGGS}/"), times=0))
    with pytest.raises(RemoteError, match=f"the listing of {DAY_AGGS}/ .*{words}"):
        await bench.discover()
    assert OTHER in await bench.rows()
    assert next(endless.pages) < 20


def other_names() -> Bend:
    numbers = count()
    return lambda xml: re.sub(r"<Prefix>\w+/</Prefix>", lambda _name: f"<Prefix>zz{next(numbers):05}/</Prefix>", xml)


@pytest.mark.parametrize("shows", [nothing, other_names()], ids=["without names", "of other names"])
async def test_an_endless_listing_of_datasets_does_not_say_that_one_is_absent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, shows: Bend
) -> None:
    monkeypatch.setattr("polyb2.remote.parsing.FOLDER_PAGES_MAX", 5)
    bench.box.source.put(GOOD, b"x")
    bench.box.source.inject(Fault("list", Bent(Endless(shows)), times=0))
    with pytest.raises(RemoteError, match=r"the listing of datasets does not end, and .* is not among those"):
        await bench.discover(historical(None, None, (DAY_AGGS,)))


async def test_a_bucket_whose_listing_does_not_end_is_no_endless_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed, "STUCK_MAX", 5)
    bench.box.source.put(GOOD, b"x")
    bench.box.target.inject(Fault("list", Bent(Endless()), times=0))
    with pytest.raises(RemoteError, match=r"target: the listing of .* does not end"):
        await bench.discover()


async def test_names_that_no_dataset_can_have_are_refused_and_shown_short(bench: Bench) -> None:
    long = "a" * 1000
    for prefix in ("..", long, "bell\x07"):
        bench.box.source.put(f"{prefix}/day_aggs_v1/2024/01/2024-01-02.csv.gz", b"x")
    bench.box.source.put(GOOD, b"x")
    report = await bench.discover()
    assert report.total("queued") == 1
    assert sorted(report.ignored) == ["../", f"{'a' * 120}... (301 characters)", "bell\\x07/"]


@pytest.mark.parametrize("dataset", ["../x", "x/..", "./x", "a\x1b/b", f"{'a' * 300}/b"])
def test_a_dataset_is_no_path(dataset: str) -> None:
    with pytest.raises(UsageError, match="is not a dataset"):
        split_datasets([dataset])


async def test_a_key_longer_than_s3_has_is_left_out_by_name(bench: Bench) -> None:
    bench.box.source.put(GOOD, b"x")
    long = f"{DAY_AGGS}/2024/01/{'0' * 1100}.csv.gz"
    bench.box.source.put(long, b"x")
    report = await bench.discover()
    assert report.ignored == [f"{long[:120]}... ({len(long)} characters)"]


# -- revisions that a worker meets in mid-transfer -----------------------------------------------------------------------


def no_more_than_1000(bytes_max: int, *, given: bool = False) -> Consent:
    """The consent of a run; that of a discovery is given."""
    return Consent(bytes_max if given else 1000, given=given)


async def replaced_under_way(bench: Bench, content: bytes) -> None:
    """Mirror a file that is replaced when its first byte is asked for."""

    async def replace() -> None:
        bench.box.source.put(GOOD, content)

    bench.box.source.put(GOOD, b"x" * 10)
    bench.box.source.put(LATER, b"x")
    await bench.discover(named_dates(["2024-01-02..2024-01-04"], (DAY_AGGS,)))
    bench.box.source.inject(Fault("get", Call(replace), key=GOOD, times=1))
    await bench.run()


async def test_a_revision_that_is_too_much_waits_for_a_yes_also_where_a_worker_met_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.conftest.Consent", no_more_than_1000)
    await replaced_under_way(bench, b"y" * 1001)
    row = await bench.row(GOOD)
    assert (row["status"], row["reason"], row["revision"]) == ("permanent_failure", "held", 1)
    assert "more than POLYB2_MAX_PLAN_BYTES" in row["error_message"]
    assert f"polyb2 discover --dates 2024-01-02 --dataset {DAY_AGGS} --yes" in row["error_message"]
    async with bench.open() as mirror:
        assert (await mirror.ledger.held()).bytes == 1001
    bench.assert_mirrored(LATER)
    await bench.mirror_all()
    bench.assert_mirrored(GOOD)
    bench.assert_clean()
    async with bench.open() as mirror:
        assert (await mirror.ledger.held()).files == 0


async def test_a_revision_that_a_worker_met_and_nobody_agreed_to_is_over_when_the_source_takes_it_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.conftest.Consent", no_more_than_1000)
    await replaced_under_way(bench, b"y" * 1001)
    bench.box.source.put(GOOD, b"x" * 10)
    await bench.mirror_all()
    bench.assert_mirrored(GOOD)
    async with bench.open() as mirror:
        assert (await mirror.ledger.held()).files == 0


async def test_a_file_that_becomes_one_of_impossible_size_under_way_is_parked_with_words(bench: Bench) -> None:
    bench.box.source.put(BAD, b"x" * 10)
    bench.box.source.put(LATER, b"x")
    await bench.discover()
    huge = Bent(of_the_bad_one(r"<Size>\d+", "<Size>9223372036854775807"))
    bench.box.source.inject(Fault("list", huge, times=0))
    bench.box.source.inject(Fault("get", Answer(412, "PreconditionFailed"), key=BAD, times=0))
    await bench.run()
    row = await bench.row(BAD)
    assert (row["status"], row["reason"]) == ("permanent_failure", "too_large")
    assert "9223372036854775807 bytes, is beyond the target's 10.0 TB" in row["error_message"]
    bench.assert_mirrored(LATER)


async def test_a_file_that_becomes_one_without_an_etag_under_way_is_parked_with_words(bench: Bench) -> None:
    """There would be nothing to tell one revision from another by."""
    bench.box.source.put(BAD, b"x" * 10)
    await bench.discover()
    bench.box.source.inject(Fault("list", Bent(of_the_bad_one(r"<ETag>.*?</ETag>", "")), times=0))
    bench.box.source.inject(Fault("get", Answer(412, "PreconditionFailed"), key=BAD, times=0))
    await bench.run()
    row = await bench.row(BAD)
    assert (row["status"], row["reason"], row["revision"]) == ("permanent_failure", "unusable", 1)
    assert "lacks a size, an ETag or a time" in row["error_message"]
