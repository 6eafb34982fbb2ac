"""Wrong words, settings and databases: one clear line, exit code 2, and nothing changed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from polyb2.sandbox import Answer, Delay, Fault, GeneratedGzip, Reset
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key, until

SMALL, LARGE = key("2024-01-02"), key("2024-01-02", QUOTES)
PLAIN = ("--dataset", DAY_AGGS)


USAGE = [
    (("discover", "--dates", "2024-13-01"), {}, "2024-13-01"),
    (("discover", "--dates", "2024-01-05..2024-01-02"), {}, "start lies after the end"),
    (("discover", "--dates", "2024-01-02", "--historical"), {}, "exclude each other"),
    (("discover", "--start-date", "2024-01-02"), {}, "--historical"),
    (("discover", "--start_date", "2024-01-02", "--dates", "2024-01-02"), {}, "--historical"),
    (("discover", "--dataset", "us_stocks"), {}, "us_stocks"),
    (("discover", "--dataset", "us_stocks_sip/day_agg_v1"), {}, "did you mean us_stocks_sip/day_aggs_v1"),
    (("discover", "--dataset", "nobody/*"), {}, "lists no"),
    (("discover", "--nonsense"), {}, "--nonsense"),
    (("files", "--status", "done"), {}, "permanent_failure"),
    (("retry", "--status", "completed"), {}, "failed or parked"),
    (("unqueue", "--status", "processing"), {}, "waiting"),
    (("run", "--concurrency", "0"), {}, "concurrency"),
    (("run", "--max-bandwidth", "fast"), {}, "--max-bandwidth: "),
    (("run", "--max-bandwidth", "-1"), {}, "--max-bandwidth: "),
    (("run", "--concurrency", "0"), {}, "--concurrency: '0' is out of range: write 1 to 1024"),
    (("run", "--limit", "0"), {}, "--limit: '0' is out of range: write 1 to 1000000000"),
    (
        ("discover", "--lookback-days", "many"),
        {},
        "--lookback-days: 'many' is not a whole number: write 0 to 1000000000",
    ),
    (("coverage", "--require", "perfect"), {}, "--require: 'perfect' is not known: write complete"),
    (("cleanup", "--older-than", "soon"), {}, "--older-than"),
    (("run",), {"B2_APPLICATION_KEY": "", "POLYGON_S3_ACCESS_KEY_ID": ""}, "B2_APPLICATION_KEY is not set"),
    (("run",), {"B2_ENDPOINT_URL": "http://s3.us-west-004.backblazeb2.com"}, "https://"),
    (("run",), {"DATABASE_URL": "postgresql://me:hunter2%@host/db"}, "cannot be read as postgresql://"),
    (("run",), {"DATABASE_URL": "sqlite:////proc/nowhere/x.db"}, "/proc/nowhere"),
    (("run",), {"POLYB2_PART_SIZE": "1MiB", "POLYB2_LEASE_SECONDS": "soon"}, "POLYB2_LEASE_SECONDS"),
    (("sync", "--lookback-days", "-1"), {}, "lookback"),
]


@pytest.mark.parametrize(("words", "extra", "said"), USAGE, ids=[" ".join(item[0]) + str(item[1]) for item in USAGE])
async def test_wrong_usage_is_exit_2_and_plain_lines(
    bench: Bench, words: tuple[str, ...], extra: dict[str, str], said: str
) -> None:
    bench.box.source.put(SMALL, b"x")
    ended = await bench.cli(*words, **extra)
    assert ended.code == 2, ended
    assert said in ended.err
    assert "Input should" not in ended.err
    assert all(line.startswith("polyb2: ") for line in ended.err.splitlines())
    assert "hunter2" not in ended.err


async def test_all_wrong_settings_are_told_at_once(bench: Bench) -> None:
    ended = await bench.cli("run", POLYB2_PART_SIZE="x", POLYB2_GIVE_UP="y", LOG_LEVEL="loud")
    assert len(ended.err.splitlines()) == 3


def _ancestor(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE files_to_process (file_key TEXT, status TEXT)")
    database.close()


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA application_id = 1346515536")
        database.execute("PRAGMA user_version = 999")
    database.close()


def _garbage(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + b"not a database" * 100)


def _damaged(path: Path) -> None:
    _newer(path)
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_ancestor, "polygon_b2_downloader_v2"),
        (_newer, "newer polyb2"),
        (_garbage, "not a ledger"),
        (_damaged, "ledger"),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("status",)])
async def test_a_database_that_is_not_ours_is_refused_and_left_untouched(
    bench: Bench, make: Callable[[Path], None], said: str, command: tuple[str, ...]
) -> None:
    path = bench.folder / "ledger.db"
    make(path)
    before = path.read_bytes()
    ended = await bench.cli(*command)
    assert ended.code == 2, ended
    assert said in ended.err
    assert path.read_bytes() == before


async def test_a_ledger_of_another_bucket_is_refused_and_a_renamed_endpoint_rebound(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    await bench.mirror_all()
    ended = await bench.cli("run", B2_BUCKET_NAME="another")
    assert ended.code == 2
    assert "another DATABASE_URL" not in ended.err
    assert "belongs to" in ended.err
    renamed = bench.box.target.endpoint_url.replace("127.0.0.1", "localhost")
    assert (await bench.cli("run", B2_ENDPOINT_URL=renamed)).code == 2
    assert (await bench.cli("rebind", B2_ENDPOINT_URL=renamed)).code == 0
    assert (await bench.cli("run", B2_ENDPOINT_URL=renamed)).code == 0
    assert (await bench.cli("rebind", B2_BUCKET_NAME="another")).code == 2


async def test_a_bucket_that_is_not_there_is_exit_4(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    ended = await bench.cli("discover", "--dates", "2024-01-02", *PLAIN, B2_BUCKET_NAME="nowhere")
    assert ended.code == 4
    assert "bucket" in ended.err


async def test_nothing_secret_is_shown_even_when_everything_fails(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    bench.box.target.inject(Fault("upload_part", Reset("middle"), times=0))
    bench.box.target.inject(Fault("put", Answer(403, "SignatureDoesNotMatch"), times=0))
    ended = await bench.cli("--debug", "run", LOG_LEVEL="DEBUG", POLYB2_PART_TRIES="2", POLYB2_MAX_RETRIES="0")
    _assert_no_secret(bench, ended.out + ended.err)


async def test_nothing_secret_is_in_the_process_list_or_the_objects(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    bench.box.source.inject(Fault("get", Delay(0.5), times=0))
    bench.fresh = True
    process = await bench.start("run", LOG_LEVEL="DEBUG")
    await until(lambda: bench.box.source.in_flight > 0)
    listed = Path(f"/proc/{process.pid}/cmdline").read_text() if Path("/proc").exists() else ""
    out, err = await process.communicate()
    metadata = [bench.box.target.versions(name)[0].metadata for name in (SMALL, LARGE)]
    _assert_no_secret(bench, f"{listed}{out.decode()}{err.decode()}{metadata}")
    _assert_no_secret(bench, repr(bench.configured()))


def _assert_no_secret(bench: Bench, told: str) -> None:
    """Neither in what was told nor in the ledger: secret keys and signatures."""
    database = b"".join(path.read_bytes() for path in bench.folder.glob("ledger.db*")).decode("latin-1")
    for secret in (bench.box.source.secret_key, bench.box.target.secret_key):
        assert secret not in told + database
    assert not re.search(r"Signature=[0-9a-f]{20}", told + database)
