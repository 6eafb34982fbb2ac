"""``datasets``: the catalogue without an account, and with ``--probe`` what the plan of the keys includes."""

from __future__ import annotations

import re

import pytest

from polyb2.core.errors import RemoteError
from polyb2.flow.inspect import datasets, entitlement
from polyb2.sandbox import Answer, Fault
from tests.conftest import DAY_AGGS, Bench, key

TRADES, CRYPTO, NEW = "us_stocks_sip/trades_v1", "global_crypto/day_aggs_v1", "us_bonds/day_aggs_v1"


async def test_the_catalogue_needs_no_keys_and_makes_no_ledger(bench: Bench) -> None:
    ended = await bench.cli("datasets", POLYGON_S3_ACCESS_KEY_ID="", B2_KEY_ID="")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert len(lines) == 1 + 33 + 1
    assert ["*", DAY_AGGS, "2003-09-10", "300", "kB"] in lines
    assert ["us_options_opra/quotes_v1", "2022-03-07", "106-172", "GB"] in lines
    assert ["us_futures_cme/quotes_v1", "2017-04-03", "200", "MB-4", "GB"] in lines
    assert max(map(len, ended.out.splitlines())) <= 80
    assert bench.box.source.count("list") == 0
    assert list(bench.folder.iterdir()) == []


async def test_what_the_ledger_has_stands_beside_what_is_documented(bench: Bench) -> None:
    for day in ("2024-01-02", "2024-01-05"):
        bench.box.source.put(key(day), b"x" * 100)
    bench.box.source.put(key("2024-01-02", NEW), b"y")
    await bench.mirror_all()
    shown = (await bench.cli("datasets", "--json", "--dataset", "us_stocks_sip/*,us_bonds/*")).json()["datasets"]
    assert [item["dataset"] for item in shown] == [DAY_AGGS, NEW]
    told = (await bench.cli("datasets", "--dataset", "us_stocks_sip/day_aggs_v1")).out
    assert re.search(rf"\* {DAY_AGGS} +2003-09-10 +300 kB +2 of 2 +200 B\n", told)
    assert shown[0] == {
        "dataset": DAY_AGGS, "chosen": True, "first_date": "2003-09-10", "day_bytes": [300_000, 300_000],
        "ledger": {
            "files": 2, "bytes": 200, "mirrored": {"files": 2, "bytes": 200}, "first_date": "2024-01-02",
            "last_date": "2024-01-05",
        },
        "probe": None,
    }  # fmt: skip
    assert (shown[1]["chosen"], shown[1]["first_date"], shown[1]["day_bytes"]) == (False, None, None)


async def test_a_probe_tells_what_is_in_the_plan_from_what_is_too_old_and_what_is_not(bench: Bench) -> None:
    source = bench.box.source
    for dataset in (DAY_AGGS, TRADES, CRYPTO, NEW):
        for day in ("2003-09-10", "2020-01-02", "2024-01-05"):
            source.put(key(day, dataset), b"")
    source.entitled = lambda wanted: TRADES not in wanted and (CRYPTO not in wanted or "2024" in wanted)
    ended = await bench.cli("datasets", "--probe", "--json", B2_KEY_ID="", B2_BUCKET_NAME="")
    assert (ended.code, ended.err) == (0, "")
    found = {item["dataset"]: item["probe"] for item in ended.json()["datasets"]}
    assert len(found) == 34
    assert found[DAY_AGGS] == {
        "readable": "all", "oldest": "2003-09-10", "newest": "2024-01-05", "newest_bytes": 0, "problem": None,
    }  # fmt: skip
    assert {dataset: found[dataset]["readable"] for dataset in (TRADES, CRYPTO, NEW)} == {
        TRADES: "none", CRYPTO: "recent", NEW: "all",
    }  # fmt: skip
    assert found["us_options_opra/quotes_v1"] == {
        "readable": "unlisted", "oldest": None, "newest": None, "newest_bytes": None, "problem": None,
    }  # fmt: skip
    told = (await bench.cli("datasets", "--probe", "--dataset", f"{CRYPTO},{TRADES}")).out
    assert "newest, not oldest  2003-09-10..2024-01-05" in told
    assert "not in the plan" in told
    assert list(bench.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--probe --dataset us_stock_sip/day_aggs_v1", 2, "did you mean us_stocks_sip/day_aggs_v1"),
        ("--dataset us_stock_sip/day_aggs_v1", 2, "did you mean us_stocks_sip/day_aggs_v1"),
        ("--dataset day_aggs_v1", 2, "is not a dataset"),
    ],
)
async def test_a_name_that_nobody_knows_is_wrong_usage(bench: Bench, words: str, code: int, message: str) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    ended = await bench.cli("datasets", *words.split())
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err


async def test_refused_keys_end_a_probe(bench: Bench) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    ended = await bench.cli("datasets", "--probe", POLYGON_S3_SECRET_ACCESS_KEY="wrong")
    assert (ended.code, ended.out) == (4, "")
    assert "check POLYGON_S3_ACCESS_KEY_ID" in ended.err


async def test_a_dataset_that_cannot_be_asked_for_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entitlement, "AGAIN_S", 0.0)
    for dataset in (DAY_AGGS, TRADES):
        bench.box.source.put(key("2024-01-02", dataset), b"x")
    bench.box.source.inject(Fault("get", Answer(500, "InternalError"), times=100, key=key("2024-01-02", TRADES)))
    async with bench.open(polyb2_part_tries=2) as mirror:
        entries = await datasets.known_datasets(mirror.ledger, [])
        await datasets.probe(mirror.source, entries, [DAY_AGGS, TRADES])
    found = {entry.dataset: entry for entry in entries}
    readable = found[DAY_AGGS].entitlement
    assert readable is not None
    assert readable.readable is entitlement.Readable.ALL
    assert found[TRADES].entitlement is None
    assert "InternalError" in str(found[TRADES].problem)


async def test_a_source_that_is_away_is_told_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.box.source.put(key("2024-01-02"), b"x")
    async with bench.open(polyb2_part_tries=1) as mirror:
        entries = await datasets.known_datasets(mirror.ledger, [])
        bench.box.source.inject(Fault("list", Answer(403, "InvalidAccessKeyId"), times=100))
        with pytest.raises(RemoteError, match="InvalidAccessKeyId"):
            await datasets.probe(mirror.source, entries, [DAY_AGGS, TRADES])
