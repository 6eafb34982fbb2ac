"""``plan`` as a user sees it before the first byte: kinds by year, hours, money, the guard; and nothing is queued."""

from __future__ import annotations

import pytest

from polyb2.sandbox import GeneratedGzip
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key

WANTED = ("--historical", "--dataset", f"{DAY_AGGS},{QUOTES}")
LARGE = key("2023-12-29", QUOTES)


async def mixed(bench: Bench) -> None:
    """A file of each kind: mirrored, to be revised, adoptable, waiting, parked, and two new ones."""
    source, target = bench.box.source, bench.box.target
    refused = key("2024-01-04")
    for day in ("2024-01-02", "2024-01-03", "2024-01-04"):
        source.put(key(day), b"x" * 1000)
    source.entitled = lambda wanted: wanted != refused
    await bench.mirror_all(polyb2_retry_base=0.001)  # it is refused nine times before it is parked
    source.put(key("2024-01-05"), b"y" * 500)
    await bench.discover()
    source.put(key("2024-01-03"), b"z" * 3000)
    source.put(key("2024-01-08"), b"a" * 700)
    await target.store(key("2024-01-08"), b"a" * 700)
    source.put(key("2024-01-09"), b"n" * 40)
    source.put(LARGE, GeneratedGzip(24 * MIB), part_bytes=8 * MIB)


async def test_a_plan_tells_each_kind_by_dataset_and_year(bench: Bench) -> None:
    await mixed(bench)
    before = await bench.rows()
    found = (await bench.cli("plan", *WANTED, "--json", "--rate", "1M", POLYB2_PART_SIZE="8MiB")).json()
    assert {name: found[name] for name in ("listed", "queued", "revised", "adopted", "unchanged")} == {
        "listed": 7, "queued": 3, "revised": 1, "adopted": 1, "unchanged": 3,
    }  # fmt: skip
    size = bench.box.source.object(LARGE).content.size
    years = {item["dataset"]: item["years"] for item in found["datasets"]}
    assert [item["year"] for item in years[DAY_AGGS]] == [2024]
    assert {kind: (amount["files"], amount["bytes"]) for kind, amount in years[DAY_AGGS][0].items() if kind != "year"} == {
        "new": (1, 40), "revised": (1, 3000), "adopted": (1, 700), "mirrored": (1, 1000), "waiting": (1, 500),
        "parked": (1, 1000),
    }  # fmt: skip
    assert (years[QUOTES][0]["year"], years[QUOTES][0]["new"]) == (2023, {"files": 1, "bytes": size})
    assert found["kinds"]["new"] == {"files": 2, "bytes": size + 40}
    assert found["bytes_queued"] == size + 3040
    estimate = found["estimate"]
    assert (estimate["rate_bytes_per_s"], estimate["rate_from"]) == (1e6, "given")
    assert estimate["hours"] == pytest.approx((size + 3040) / 1e6 / 3600)
    # What B2 holds: the mirrored ones, the older revision of the replaced one, and what is adopted.
    assert (estimate["bytes_waiting"], estimate["bytes_stored"]) == (500, 2700)
    assert estimate["bytes_stored_after"] == 2700 + 500 + size + 3040
    # Two single PUTs; Create, three parts, Complete and a HEAD; each dataset's bucket is listed once.
    assert estimate["requests"] == {"class_a": 2 + 5, "class_b": 1, "class_c": 2}
    assert await bench.rows() == before


async def test_a_plan_reads_for_people(bench: Bench) -> None:
    await mixed(bench)
    ended = await bench.cli("plan", *WANTED, "--rate", "10M", POLYB2_MAX_PLAN_BYTES="1MB")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    heads = ["dataset", "year", "new", "revised", "adoptable", "mirrored", "waiting", "parked", "to", "queue"]
    assert lines[0].split() == heads
    assert [DAY_AGGS, "2024", "1", "1", "1", "1", "1", "1", "3.0", "kB"] in [line.split() for line in lines]
    assert "3 files to queue, 25." in ended.out
    assert "waiting in the queue already: 500 B" in lines
    assert "s at 10.0 MB/s (given)" in ended.out
    assert "B2 storage: 2.7 kB now, 25." in ended.out
    assert "0.00 USD per 30 days now, 0.00 then" in ended.out
    assert "above POLYB2_MAX_PLAN_BYTES (1.0 MB): discover asks first, or needs --yes" in lines


async def test_without_a_ledger_none_is_made_and_no_rate_is_known(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x" * 10)
    ended = await bench.cli("plan", *WANTED[:1], "--dataset", DAY_AGGS)
    assert (ended.code, ended.err) == (0, "")
    assert "how long that takes is not known: no rate was measured yet; say --rate 100M" in ended.out
    assert "within POLYB2_MAX_PLAN_BYTES (1.0 TB): discover queues it without asking" in ended.out
    assert list(bench.folder.iterdir()) == []


async def test_prices_are_a_setting(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x" * 1_000_000)
    prices = "storage=1000000,free=0,class_a=10,class_c=5,currency=EUR"
    ended = await bench.cli("plan", *WANTED[:1], "--dataset", DAY_AGGS, POLYB2_PRICES=prices)
    assert "0.00 EUR per 30 days now, 1.00 then" in ended.out
    assert "about 1 of class A, 0 of class B, 1 of class C: 0.01 EUR" in ended.out  # 0.010 and 0.005, to the cent


@pytest.mark.parametrize(
    ("words", "prices", "message"),
    [
        ((), "storage=cheap", "POLYB2_PRICES: 'storage=cheap' is not a price: write storage=6.95,"),
        (("--rate", "fast"), "", "--rate: 'fast' is not a size"),
        (("--rate", "0"), "", "--rate: '0' is out of range: write 1 to 1000PB"),
    ],
)
async def test_what_does_not_parse_is_one_line_before_anything_is_listed(
    bench: Bench, words: tuple[str, ...], prices: str, message: str
) -> None:
    ended = await bench.cli("plan", *WANTED, *words, POLYB2_PRICES=prices)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert message in ended.err
    assert bench.box.source.count("list") == 0


async def test_a_price_that_cannot_be_read_does_not_keep_a_mirror_from_its_work(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    wanted = ("--dates", "2024-01-02", "--dataset", DAY_AGGS)
    assert (await bench.cli("sync", *wanted, POLYB2_PRICES="storage=cheap")).code == 0
    bench.assert_mirrored(key("2024-01-02"))
