"""``polyb2 ledger`` as a command, between SQLite and PostgreSQL: a mirror that was killed goes on in the other store."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from polyb2.sandbox import GeneratedGzip
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, Ended, key
from tests.postgres import PostgresServer

LARGE, SMALL = key("2024-01-02", QUOTES), key("2024-01-03")
QUICK = {"POLYB2_PART_SIZE": "5MiB", "POLYB2_LEASE_SECONDS": "1"}


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    name = server.new_database()
    yield server.url(name)
    server.drop_database(name)


async def test_a_mirror_that_was_killed_goes_on_from_its_parts_in_the_other_store(
    bench: Bench, url: str, tmp_path: Path
) -> None:
    first, then = f"sqlite:///{tmp_path / 'ledger.db'}", url
    bench.box.source.put(LARGE, GeneratedGzip(31 * MIB))
    await bench.discover(database_url=first)
    kill = {"POLYB2_FAILPOINTS": "ledger.receipt.after=kill@3"}
    killed = await bench.cli("run", "--concurrency", "1", DATABASE_URL=first, **kill, **QUICK)
    assert killed.code == -signal.SIGKILL
    bench.box.source.put(SMALL, b"one more")
    refused = await bench.cli("ledger", "copy", "--to", then, DATABASE_URL=first)
    assert refused.code == 2
    assert "work with the ledger in" in refused.err
    copied = await until_lease_is_over(bench, first, then)
    assert copied.code == 0, copied.err
    found = copied.json()
    assert found["equal"]
    assert [table["rows_copied"] for table in found["tables"] if table["table"] == "parts"] == [3]
    again = await bench.cli("ledger", "copy", "--to", then, DATABASE_URL=first)
    assert (again.code, "is not empty" in again.err) == (2, True)
    ended = await bench.cli(
        "sync", "--historical", "--dataset", f"{DAY_AGGS},{QUOTES}", "--concurrency", "1", DATABASE_URL=then, **QUICK
    )
    assert ended.code == 0, ended.err
    for name in (LARGE, SMALL):
        bench.assert_mirrored(name)
    bench.assert_clean()
    sent = [item.part for item in bench.box.target.requests if item.operation == "upload_part" and item.status == 200]
    assert sorted(part for part in sent if part) == list(range(1, 8)), "a part with a receipt was sent again"
    assert (await bench.cli("ledger", "check", DATABASE_URL=then)).code == 0


async def until_lease_is_over(bench: Bench, first: str, then: str) -> Ended:
    while True:
        ended = await bench.cli("ledger", "copy", "--to", then, "--json", DATABASE_URL=first)
        if "work with the ledger in" not in ended.err:
            return ended


async def test_check_ends_with_3_and_migrate_says_the_versions(bench: Bench, url: str, server: PostgresServer) -> None:
    missing = await bench.cli("ledger", "check", DATABASE_URL=url)
    assert (missing.code, "there is no ledger at postgresql://" in missing.err) == (2, True)
    made = await bench.cli("ledger", "migrate", DATABASE_URL=url)
    assert (made.code, ": made, schema " in made.out) == (0, True), made.err
    migrated = (await bench.cli("ledger", "migrate", "--json", DATABASE_URL=url)).json()
    assert migrated["from"] == migrated["to"]
    bench.box.source.put(SMALL, b"a file")
    await bench.discover(database_url=url)
    with closing(server.connect(url.partition("?")[0].rpartition("/")[2])) as connection:
        connection.execute("ALTER TABLE polyb2.files DISABLE TRIGGER files_new")
    wrong = await bench.cli("ledger", "check", "--json", DATABASE_URL=url)
    assert wrong.code == 3
    assert [check["name"] for check in wrong.json()["checks"] if check["level"] == "fail"] == ["schema"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ledger", "copy"), "--to URL goes with polyb2 ledger copy"),
        (("ledger", "check", "--to", "sqlite:///x.db"), "--to URL goes with polyb2 ledger copy"),
        (("ledger", "copy", "--to", "sqlite:///ledger.db"), "--to is the ledger that DATABASE_URL names"),
        (("ledger", "copy", "--to", "sqlite:///new.db"), "there is no ledger at"),
        (("ledger", "copy", "--to", "polyb2:secretword@host/x"), "is not a ledger URL"),
        (("ledger", "repair"), "write copy, migrate or check"),
    ],
)
async def test_what_cannot_be_meant_is_exit_2(bench: Bench, words: tuple[str, ...], said: str) -> None:
    ended = await bench.cli(*words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "secretword" not in ended.err


async def test_a_copy_that_was_killed_is_refused_in_one_line_and_copied_again(bench: Bench, url: str) -> None:
    bench.box.source.put(SMALL, b"a file")
    await bench.mirror_all()
    killed = await bench.cli("ledger", "copy", "--to", url, POLYB2_FAILPOINTS="ledger.copy.after=kill@3")
    assert killed.code == -signal.SIGKILL
    for words in (("status",), ("run",), ("files", "--json"), ("ledger", "check")):
        refused = await bench.cli(*words, DATABASE_URL=url)
        assert (refused.code, refused.out) == (2, "")
        (line,) = refused.err.splitlines()
        assert "is a copy that did not end: run polyb2 ledger copy again" in line
    again = await bench.cli("ledger", "copy", "--to", url)
    assert again.code == 0, again.err
    assert "set DATABASE_URL to it everywhere" in again.out
    assert "1 files completed" not in (await bench.cli("run", DATABASE_URL=url)).out
    assert (await bench.cli("status", "--json", DATABASE_URL=url)).json()["by_status"]["completed"]["files"] == 1
