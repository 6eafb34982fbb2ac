"""The commands as a user types them: real processes against the sandbox."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest

from polyb2.sandbox import Answer, Fault, GeneratedGzip
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key

SMALL, LARGE = key("2024-01-02"), key("2024-01-02", QUOTES)
PLAIN = ("--dataset", DAY_AGGS)


async def test_discover_then_run_then_verify(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    bench.box.source.put(LARGE, GeneratedGzip(24 * MIB), part_bytes=8 * MIB)
    ended = await bench.cli("discover", "--dates", "2024-01-02", "--dataset", f"{DAY_AGGS},us_options_opra/*")
    assert (ended.code, ended.err) == (0, "")
    assert "2 files queued" in ended.out
    ended = await bench.cli("run", "--concurrency", "8")
    assert ended.code == 0, ended.err
    assert "2 files completed" in ended.out
    bench.assert_mirrored(LARGE)
    ended = await bench.cli("verify", "--deep", "--json")
    assert (ended.code, ended.json()) == (
        0,
        {"checked": 2, "differences": [], "damaged_at_source": [], "damaged_at_source_total": 0, "repaired": 0},
    )
    assert "2 files completed" not in (await bench.cli("run")).out
    assert len(bench.box.target.versions(SMALL)) == 1


async def test_status_and_files_speak_json(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    await bench.cli("discover", "--dates", "2024-01-02", *PLAIN)
    status = (await bench.cli("status", "--json")).json()
    assert status["totals"] == {"files": 1, "bytes": 1000, "bytes_done": 0}
    assert status["rate_bytes_per_s"] is None
    assert set(status["by_status"]) == {
        "pending", "processing", "completed", "failed_download", "failed_upload", "permanent_failure", "not_entitled"
    }  # fmt: skip
    await bench.cli("run")
    status = (await bench.cli("status", "--json")).json()
    assert status["by_status"]["completed"] == {"files": 1, "bytes": 1000}
    assert status["totals"]["bytes_done"] == 1000
    assert status["rate_bytes_per_s"] > 0
    row = (await bench.cli("files", "--json", "--status", "completed")).json()
    assert row["dest_version_id"] == bench.box.target.versions(SMALL)[0].version_id
    assert row["completed_at"].endswith("Z")


async def test_without_a_ledger_status_is_zeros_and_makes_no_file(bench: Bench) -> None:
    status = await bench.cli("status", "--json")
    assert (status.code, status.json()["totals"]) == (0, {"files": 0, "bytes": 0, "bytes_done": 0})
    assert (await bench.cli("files", "--json")).out == ""
    assert list(bench.folder.iterdir()) == []


async def test_discover_names_what_is_not_published_and_what_is_foreign(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.put(key("2024-01-03", "us_stocks_sip/trades_v1"), b"x")
    bench.box.source.put(f"{DAY_AGGS}/2024/01/notes.txt", b"foreign")
    bench.box.source.put(f"{DAY_AGGS}/2024/01/2024-02-09.csv.gz", b"in another month's folder")
    wanted = ("--dates", "2024-01-01,2024-01-02", "--dataset", "us_stocks_sip/*", "--json")
    found = (await bench.cli("discover", *wanted)).json()
    assert (found["listed"], found["queued"], found["bytes_queued"]) == (1, 1, 1)
    assert found["not_published"] == ["2024-01-01", "2024-01-02 us_stocks_sip/trades_v1"]
    assert found["ignored"] == [f"{DAY_AGGS}/2024/01/2024-02-09.csv.gz", f"{DAY_AGGS}/2024/01/notes.txt"]
    assert [item["dataset"] for item in found["datasets"]] == [DAY_AGGS, "us_stocks_sip/trades_v1"]


async def test_plan_queues_nothing(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 10)
    found = (await bench.cli("plan", "--historical", *PLAIN, "--json")).json()
    assert (found["queued"], found["bytes_queued"]) == (1, 10)
    assert (await bench.cli("files", "--json")).out == ""


async def test_a_plan_above_the_limit_needs_a_yes(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    wanted = ("--dates", "2024-01-02", *PLAIN)
    ended = await bench.cli("discover", *wanted, POLYB2_MAX_PLAN_BYTES="999")
    assert ended.code == 2
    assert "--yes" in ended.err
    assert (await bench.cli("files", "--json")).out == ""
    assert (await bench.cli("discover", *wanted, "--yes", POLYB2_MAX_PLAN_BYTES="999")).code == 0
    ended = await bench.cli("sync", *wanted, DATABASE_URL="sqlite:///other.db", POLYB2_MAX_PLAN_BYTES="999")
    assert (ended.code, bench.box.target.count("put")) == (2, 0)


async def test_retry_and_unqueue(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.put(key("2024-01-03"), b"y")
    await bench.cli("discover", "--historical", *PLAIN)
    assert "1 files taken out" in (await bench.cli("unqueue", "--dates", "2024-01-02")).out
    await bench.run()
    bench.box.source.put(key("2024-01-03"), b"newer")
    await bench.cli("discover", "--historical", *PLAIN)
    assert "2 files taken out" in (await bench.cli("unqueue")).out
    row = await bench.row(key("2024-01-03"))
    assert (row["status"], row["revision"], row["mirrored_revision"]) == ("completed", 1, 1)
    assert (await bench.discover()).total("queued") == 2


async def test_files_with_a_key_tells_its_story(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    await bench.discover()
    bench.box.source.inject(Fault("get", Answer(500, "InternalError"), times=1))
    await bench.run(polyb2_part_tries=1)
    bench.box.source.put(SMALL, b"newer" * 1000)
    await bench.discover()
    told = await bench.cli("files", SMALL)
    assert (told.code, told.err) == (0, "")
    for words in (
        "revision 1: 1.0 kB, ETag", f"as version {bench.box.target.versions(SMALL)[0].version_id}, proven by etag",
        "revision 2: 5.0 kB, ETag", "not mirrored", "attempt 1 at revision 1: fail_download after ",
        "attempt 2 at revision 1: completed after ", ": server_error: source: ",
    ):  # fmt: skip
        assert words in told.out, words
    story = (await bench.cli("files", SMALL, "--json")).json()
    assert [row["revision"] for row in story["revisions"]] == [1, 2]
    assert [row["outcome"] for row in story["attempts"]] == ["fail_download", "completed"]
    other = key("2024-01-03")
    missing = await bench.cli("files", other, SMALL, "--json", "--dates", "2024-01-03")
    assert (missing.code, missing.out) == (3, "")
    assert (await bench.cli("files", other, SMALL, "--json")).code == 3
    assert f"the ledger has no {other}: run polyb2 discover" in missing.err


async def test_verify_says_which_revisions_a_stale_file_is_about(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x" * 1000)
    await bench.mirror_all()
    bench.box.source.put(SMALL, b"newer")
    (found,) = (await bench.cli("verify", "--json")).json()["differences"]
    assert (found["key"], found["kind"]) == (SMALL, "stale")
    assert (found["mirrored"]["revision"], found["mirrored"]["size"]) == (1, 1000)
    assert (found["listed"]["revision"], found["listed"]["size"]) == (None, 5)
    assert "is revision 1 (1.0 kB), listed is a newer one that no discovery" in (await bench.cli("verify")).out
    await bench.discover()
    (found,) = (await bench.cli("verify", "--json")).json()["differences"]
    assert found["listed"]["revision"] == 2
    assert "listed is revision 2 (5 B, ETag" in (await bench.cli("verify")).out


async def test_exit_3_when_a_file_of_this_run_failed(bench: Bench) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.entitled = lambda _key: False
    await bench.cli("discover", "--historical", *PLAIN)
    ended = await bench.cli("run")
    assert ended.code == 3
    assert f"not_entitled {SMALL}" in ended.out
    assert (await bench.cli("run")).code == 0


async def test_verify_names_each_kind_of_difference(bench: Bench) -> None:
    names = [key(f"2024-01-0{day}") for day in range(1, 8)]
    for name in names:
        bench.box.source.put(name, b"data of " + name.encode())
    await bench.discover()
    await bench.run()
    missing, size, etag, stale, gone, content, _fine = names
    target = bench.box.target
    target._versions[missing].clear()
    await target.store(size, b"short")
    await target.store(etag, b"Data of " + etag.encode())
    bench.box.source.put(stale, b"newer")
    bench.box.source.remove(gone)
    kept = target.versions(content)[0].blobs
    assert kept is not None
    object.__setattr__(kept[0], "data", b"DATA of " + content.encode())
    await target.store(key("2024-01-09"), b"extra")
    await target.store("somebody's/else.txt", b"not ours")
    ended = await bench.cli("verify", "--deep", "--json")
    assert ended.code == 3
    found = {(item["key"], item["kind"]) for item in ended.json()["differences"]}
    assert found == {
        (missing, "missing"), (size, "size"), (etag, "etag"), (stale, "stale"), (gone, "source_gone"),
        (content, "content"), (key("2024-01-09"), "extra"),
    }  # fmt: skip
    assert (await bench.cli("verify", "--deep", "--repair")).code == 3
    assert (await bench.cli("run")).code == 0
    for name in (missing, size, etag, stale, content):
        bench.assert_mirrored(name)


async def test_help_needs_nothing_that_only_commands_need() -> None:
    script = (
        "import sys; from polyb2.cli import main;"
        "print(sorted({'botocore', 'aiohttp', 'aioboto3', 'rich', 'asyncio', 'pydantic'} & set(sys.modules)))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"


@pytest.mark.parametrize("command", ["status", "coverage", "datasets"])
async def test_what_is_for_programs_needs_nothing_that_draws(command: str, bench: Bench) -> None:
    assert await loaded({"rich"}, bench, command, "--json") == "0 []"


async def test_a_run_without_a_page_loads_none_and_none_loads_boto3s_own_transfers(bench: Bench) -> None:
    serving = {"aiohttp.web", "jinja2", "prometheus_client", "polyb2.web"}
    assert await loaded({*serving, "s3transfer"}, bench, "run") == "0 []"
    assert await loaded(serving, bench, "run", POLYB2_HTTP_ADDR="127.0.0.1:0") == f"0 {sorted(serving)}"


async def loaded(names: set[str], bench: Bench, *words: str, **extra: str) -> str:
    """The exit code of a command, and which of these modules it loaded."""
    script = (
        "import sys; from polyb2.cli.main import main\n"
        f"try: main({list(words)})\n"
        f"except SystemExit as end: print(end.code, sorted({names} & set(sys.modules)), file=sys.stderr)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        env=bench.environment(**extra),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    return told.decode().splitlines()[-1]


async def test_every_command_has_help_with_an_example(bench: Bench) -> None:
    text = (await bench.cli("--help")).out
    commands = re.findall(r"^  ([a-z]+)  ", text.split("Commands:")[1], re.MULTILINE)
    assert len(commands) == 16
    for command, ended in zip(
        commands, await asyncio.gather(*(bench.cli(command, "--help") for command in commands)), strict=True
    ):
        assert "Example: polyb2" in ended.out or "polyb2 rebind" in ended.out, command


async def test_the_demo_ends_with_a_verified_report(bench: Bench) -> None:
    ended = await bench.cli("demo")
    assert ended.code == 0, ended.err
    assert "0 differences" in ended.out
    assert "polyb2 run --concurrency 32" in ended.out
