"""``coverage`` as a user and a script see it: grids that read without colour, JSON, and exit codes to wait for a day."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.conftest import DAY_AGGS, Bench, key

NOW = "2024-01-10T17:00:00Z"
TRADES = "us_stocks_sip/trades_v1"


@pytest.fixture(autouse=True)
def _wednesday_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYB2_FAKE_NOW", NOW)


async def coverage(bench: Bench, *words: str, **extra: str) -> Any:
    return await bench.cli("coverage", *words, POLYB2_FAKE_NOW=NOW, **extra)


async def filled(bench: Bench) -> None:
    for day in ("2023-12-29", "2024-01-02", "2024-01-03", "2024-01-06", "2024-01-08", "2024-01-09"):
        bench.box.source.put(key(day), b"x")
    await bench.mirror_all()
    bench.box.source.put(key("2024-01-03"), b"replaced")
    await bench.discover()


async def test_the_year_is_a_grid_of_letters_and_colours_only_where_there_is_a_terminal(bench: Bench) -> None:
    await filled(bench)
    ended = await coverage(bench)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert "\x1b" not in ended.out
    assert lines[0].split() == ["dataset", "year", "mirrored", "revised", "late", "expected"]
    assert lines[2].split() == [DAY_AGGS, "2024", "4", "1", "2", "1"]
    # 1 January is a holiday, the 3rd was replaced, the 4th and 5th are late, the 6th is a Saturday with a file.
    assert "Jan  . M R L L M . M M E" in lines
    assert f"late: {DAY_AGGS} 2024-01-04" in lines
    assert not any(line.startswith("Dec") for line in lines)  # the grid of the newest year only
    assert max(map(len, lines)) <= 80
    assert "Dec  . . . . . . . . " not in ended.out
    december = await coverage(bench, "--dates", "2023-12-28..2024-01-02")
    assert "Dec" + " " * 2 + "  " * 28 + "M . ." in december.out
    assert "Jan  . M" in december.out.splitlines()


async def test_json_has_every_day_of_the_selection(bench: Bench) -> None:
    await filled(bench)
    shown = (await coverage(bench, "--dates", "2024-01-01..2024-01-03", "--json")).json()
    assert shown["moment"] == "2024-01-10T17:00:00.000Z"
    assert (shown["complete"], shown["incomplete"]) == (
        False,
        [{"date": "2024-01-03", "dataset": DAY_AGGS, "state": "revised"}],
    )
    (found,) = shown["datasets"]
    assert {state: count for state, count in found["counts"].items() if count} == {
        "closed": 1, "mirrored": 1, "revised": 1,
    }  # fmt: skip
    assert found["days"][0] == {
        "date": "2024-01-01", "state": "closed", "closed_for": "New Year's Day", "status": None, "reason": None,
        "size": None, "revision": None, "mirrored_revision": None,
    }  # fmt: skip
    assert found["days"][2] == {
        "date": "2024-01-03", "state": "revised", "closed_for": None, "status": "pending", "reason": None,
        "size": 8, "revision": 2, "mirrored_revision": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "datasets", "code"),
    [
        ("--dates 2024-01-02", DAY_AGGS, 0),
        ("--dates 2024-01-01,2024-01-07", DAY_AGGS, 0),  # a holiday and a Sunday lack nothing
        ("--dates 2024-01-06", DAY_AGGS, 0),
        ("--dates 2024-01-02..2024-01-03", DAY_AGGS, 3),  # an older revision is not the day
        ("--dates 2024-01-04", DAY_AGGS, 3),
        ("--dates 2024-01-11", DAY_AGGS, 3),  # a day to come
        ("--dates 2024-01-02", f"{DAY_AGGS},{TRADES}", 3),  # never listed
        ("--dates 2024-01-02", "us_stocks_sip/*", 0),  # as far as the ledger knows them
        (f"--dates 2024-01-02 --dataset {TRADES}", DAY_AGGS, 3),
        ("--historical --start-date 2024-01-08 --end-date 2024-01-09", DAY_AGGS, 0),
        ("--daily --lookback-days 1", DAY_AGGS, 3),  # today is not there yet
    ],
)
async def test_a_script_waits_for_a_day_by_the_exit_code(bench: Bench, words: str, datasets: str, code: int) -> None:
    await filled(bench)
    ended = await coverage(bench, "--require", "complete", *words.split(), POLYB2_DATASETS=datasets)
    assert (ended.code, ended.err) == (code, "")
    assert ended.out.splitlines()[-1].startswith("not complete: " if code else "complete")


async def test_without_a_ledger_nothing_is_complete_and_no_file_is_made(bench: Bench) -> None:
    ended = await coverage(bench)
    assert (ended.code, ended.out) == (0, "the ledger knows nothing of these days yet: run polyb2 discover\n")
    ended = await coverage(bench, "--require", "complete", "--dates", "2024-01-02", "--json")
    assert (ended.code, ended.json()["complete"]) == (3, False)
    assert list(bench.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--require complete", "--require needs dates"),
        ("--require perfect --daily", "--require: 'perfect' is not known: write complete"),
        ("--dataset us_stock_sip/day_aggs_v1", "did you mean us_stocks_sip/day_aggs_v1"),
        ("--dataset us_bonds/*", "neither the ledger nor the catalogue"),
        ("--dates 2024-02-30", "is not a date"),
    ],
)
async def test_wrong_words_are_one_line(bench: Bench, words: str, message: str) -> None:
    ended = await coverage(bench, *words.split())
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(r"polyb2: .*\n", ended.err)
    assert message in ended.err
