"""Few open files: fewer streams and a word, never a bad disk or DNS; and what is charged to files is nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from polyb2 import descriptors
from polyb2.core.errors import Kind, LedgerError, RemoteError, Side, UsageError
from polyb2.ledger.sqlite.errors import translated
from polyb2.remote.classify import translate
from polyb2.remote.connectors import authorities
from polyb2.remote.network import Endpoint
from polyb2.remote.sessions import Account, open_client
from tests.conftest import DAY_AGGS, Bench, Ended, key

MISLEADING = ("check the disk", "DNS", "check the network", "can be written", "Traceback", "unexpected")


async def limited(bench: Bench, files: int | str, *words: str, **extra: str) -> Ended:
    """Run a command with that many files and no more."""
    command = f'ulimit -n {files}; exec "$@"'
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, "sh", sys.executable, "-m", "polyb2", *words,
        cwd=bench.folder, env=bench.environment(**extra),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def test_a_run_with_few_open_files_uses_fewer_streams_and_says_so(bench: Bench) -> None:
    keys = [key(f"2024-02-{day:02}") for day in range(1, 29)]
    for name in keys:
        bench.box.source.put(name, os.urandom(5000))
    await bench.discover()
    ended = await limited(bench, 40, "run", "--concurrency", "32")
    assert ended.code == 0, ended.err
    assert "40 files open, which is enough for 4 of the 32 streams of --concurrency" in ended.err
    assert not [words for words in MISLEADING if words in ended.err]
    assert {row["retry_count"] for row in (await bench.rows()).values()} == {0}
    assert bench.box.target.keys() == keys


async def test_a_run_without_open_files_says_so_in_one_line(bench: Bench) -> None:
    ended = await limited(bench, 8, "run")
    assert ended.code == 1
    assert ended.err.splitlines() == [ended.err.strip()]
    assert ended.err.startswith("polyb2: hardly any of the 8 files that this process may have open is left")


async def test_the_soft_limit_is_raised_to_the_hard_one(bench: Bench) -> None:
    bench.box.source.put(key("2024-02-01"), b"x")
    await bench.discover()
    ended = await limited(bench, "-S 40", "run")
    assert ended.code == 0
    assert "INFO polyb2 0.1.0, 32 streams" in ended.err
    assert "WARNING" not in ended.err


async def test_the_doctor_looks_at_the_limit(bench: Bench) -> None:
    ended = await limited(bench, 60, "doctor", POLYB2_DATASETS=DAY_AGGS)
    assert "60 for this process, enough for 9 of 32 streams" in ended.out


@pytest.mark.parametrize("files", [10, 16, 20])
@pytest.mark.parametrize("command", ["discover", "run", "status"])
async def test_so_few_that_nothing_works_is_said_in_words(bench: Bench, command: str, files: int) -> None:
    bench.box.source.put(key("2024-02-01"), b"x")
    ended = await limited(bench, files, command, POLYB2_DATASETS=DAY_AGGS, POLYB2_GIVE_UP="1s")
    assert not [words for words in MISLEADING if words in ended.err], ended
    if ended.code:
        assert "raise the limit of open files (ulimit -n)" in ended.err


# -- every place where the want of one appears -------------------------------------------------------------------------


@contextmanager
def _none_left() -> Iterator[None]:
    """Take all open files of this process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.open(os.devnull, os.O_RDONLY)
    with ExitStack() as taken:
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        taken.callback(os.close, highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        with suppress(OSError):
            while True:
                taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield


def _is_said(error: RemoteError) -> None:
    assert error.kind is Kind.NO_OPEN_FILES
    assert "files that this process may have open is left" in str(error)
    assert "--concurrency" in str(error)
    assert not [words for words in MISLEADING if words in str(error)]


@pytest.mark.parametrize("host", ["127.0.0.1", "polyb2.invalid"])
async def test_by_a_socket_and_by_a_name_that_is_looked_up(host: str) -> None:
    url = f"https://{host}:9"
    async with aiohttp.ClientSession() as session, open_client(Account(url, "bucket", "r", "key", "secret")) as client:
        await asyncio.get_running_loop().run_in_executor(None, int)
        authorities()  # read once, before
        with _none_left():
            with pytest.raises(aiohttp.ClientError) as data:
                await session.get(url)
            _is_said(translate(Side.SOURCE, "get", data.value))
            with pytest.raises(Exception, match="Too many open files") as control:
                await client.head_bucket(Bucket="bucket")
            _is_said(translate(Side.TARGET, "head", control.value))
            for step in (Endpoint(Side.TARGET, url).connect, Endpoint(Side.TARGET, url).addresses):
                try:
                    await step()
                except RemoteError as error:
                    _is_said(error)


def test_by_the_bundle_of_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    with _none_left(), pytest.raises(UsageError, match="ulimit -n"):
        authorities.__wrapped__()


def test_by_the_ledger(tmp_path: Path) -> None:
    with _none_left(), pytest.raises(LedgerError) as caught, translated():
        sqlite3.connect(tmp_path / "ledger.db")
    assert caught.value.may_pass
    assert descriptors.ADVICE in str(caught.value)
    assert "check the disk" not in str(caught.value)


def test_other_trouble_is_not_taken_for_it() -> None:
    assert descriptors.problem(OSError(errno.ECONNREFUSED, "refused")) == ""
    assert descriptors.problem(OSError(errno.EMFILE, "too many")) != ""
    error = translate(Side.SOURCE, "get", aiohttp.ServerDisconnectedError())
    assert error.kind is Kind.CONNECTION_LOST
