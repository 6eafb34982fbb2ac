"""What all tests share: the sandbox, settings that point at it, the engine in process, and the real command line."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from polyb2 import engine
from polyb2.clock import Clock
from polyb2.config import Settings
from polyb2.core import scrub
from polyb2.core.retry import Timing
from polyb2.core.selection import EVERYTHING, Selection
from polyb2.engine import RunOptions, RunResult, run
from polyb2.flow.discover.consent import Consent
from polyb2.flow.discover.consent import discover as discover_with
from polyb2.flow.discover.discovery import Discovery
from polyb2.flow.discover.findings import Report
from polyb2.flow.mirror import Mirror
from polyb2.ledger.open import open_ledger
from polyb2.sandbox import Sandbox
from polyb2.session import open_mirror
from tests import forked
from tests.ceph import CephServer, ceph_missing
from tests.swift import SwiftServer, swift_missing

MIB = 1 << 20
DAY_AGGS = "us_stocks_sip/day_aggs_v1"
QUOTES = "us_options_opra/quotes_v1"
QUICK = Timing(retry_first_s=0.01, retry_limit_s=0.1, poll_s=0.05, listing_first_s=0.05)
"""Back-off and polling many times faster, for the engine in process."""
_NOT_THE_DEVELOPERS = (*forked.OURS, "AWS_")


# A job that a shell runs in the background ignores SIGINT, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run; a failure that was found once is written down as an example, not kept in a database.
hypothesis.settings.register_profile("polyb2", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("polyb2")


def pytest_collection_finish() -> None:
    """A hook: what is loaded by now stays to the end, and no collection looks through it again."""
    gc.collect()
    gc.freeze()


def key(day: str, dataset: str = DAY_AGGS) -> str:
    """The key of a file of the layout."""
    return f"{dataset}/{day[:4]}/{day[5:7]}/{day}.csv.gz"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's reaches a test, no key of one test is blanked in the next, no run collects all garbage.

    A process begins with that, where little is loaded; here, each run would look through all of pytest.
    """
    monkeypatch.setattr(engine, "spared_collector", nullcontext)
    monkeypatch.setattr(scrub, "_SECRETS", type(scrub._SECRETS)())
    for name in list(os.environ):
        if name.startswith(_NOT_THE_DEVELOPERS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with Sandbox() as pair:
        yield pair


@dataclass
class Bench:
    """A sandbox, a folder, and polyb2 between them; in process, or as a process of its own.

    Attributes:
        fresh: each process loads the program itself, see ``tests/forked.py``.
    """

    box: Sandbox
    folder: Path
    settings: dict[str, Any]
    timing: Timing = field(default=QUICK, kw_only=True)
    fresh: bool = field(default=False, kw_only=True)

    def hurry(self, **seconds: float) -> None:
        """Shorten what the engine waits for, see :class:`~polyb2.core.retry.Timing`."""
        self.timing = replace(self.timing, **seconds)

    def open(self, *, read_only: bool = False, **overrides: Any) -> AbstractAsyncContextManager[Mirror]:
        return open_mirror(self.configured(**overrides), read_only=read_only, timing=self.timing)

    def configured(self, **overrides: Any) -> Settings:
        given = {name.lower(): value for name, value in self.box.environment().items()}
        named = given | self.settings | overrides
        return Settings(**{name: value for name, value in named.items() if value is not None})

    async def discover(self, selection: Selection = EVERYTHING, **overrides: Any) -> Report:
        async with self.open(**overrides) as mirror:
            return await discover_with(Discovery(mirror, selection), Consent(10**15, given=True))

    async def run(
        self, selection: Selection | None = None, *, watch: bool = False, limit: int | None = None, **overrides: Any
    ) -> RunResult:
        options = RunOptions(selection, watch=watch, limit=limit, consent=Consent(10**15))
        return await run(self.configured(**overrides), options, timing=self.timing)

    async def mirror_all(self, **overrides: Any) -> RunResult:
        await self.discover(**overrides)
        return await self.run(**overrides)

    async def rows(self) -> dict[str, dict[str, Any]]:
        """Every row of the ledger as ``files --json`` shows it, by key."""
        ledger = await open_ledger(url_of(self.folder / "ledger.db"), Clock(), read_only=True)
        try:
            return {file.key: file.as_json() async for file in ledger.files(EVERYTHING)}
        finally:
            await ledger.close()

    async def row(self, wanted: str) -> dict[str, Any]:
        return (await self.rows())[wanted]

    def stored(self, wanted: str) -> bytes:
        """The bytes of the current version in the bucket."""
        current = self.box.target.current(wanted)
        assert current is not None, f"{wanted} is not in the bucket"
        return current.read(0, current.size)

    def original(self, wanted: str) -> bytes:
        content = self.box.source.object(wanted).content
        return content.read(0, content.size)

    def assert_mirrored(self, wanted: str) -> None:
        assert self.stored(wanted) == self.original(wanted)

    def assert_clean(self) -> None:
        """No upload is left over."""
        assert self.box.target.open_uploads() == []

    # -- the command line ---------------------------------------------------------------------------------------------

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            **self.box.environment(),
            "DATABASE_URL": f"sqlite:///{self.folder / 'ledger.db'}",
            "POLYB2_HTTP_ADDR": "",
            "POLYB2_RETRY_BASE": "100ms",
            **extra,
        }

    async def start(self, *words: str, **extra: str) -> asyncio.subprocess.Process:
        if not self.fresh and forked.serves(extra):
            return await forked.start(words, self.folder, self.environment(**extra))
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "polyb2",
            *words,
            cwd=self.folder,
            env=self.environment(**extra),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def cli(self, *words: str, **extra: str) -> Ended:
        process = await self.start(*words, **extra)
        out, err = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def url_of(path: Path) -> str:
    """The URL of a ledger in a file."""
    return f"sqlite:///{path}"


@pytest.fixture
def bench(box: Sandbox, tmp_path: Path) -> Bench:
    return Bench(
        box,
        tmp_path,
        {
            "database_url": f"sqlite:///{tmp_path / 'ledger.db'}",
            "polyb2_http_addr": "",
            "polyb2_retry_base": 0.05,
            "polyb2_lease_seconds": 5.0,
            "polyb2_part_size": 5 * MIB,
        },
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a state of the sandbox, which has no events; the test's own time-out is the limit."""
    while not condition():
        await asyncio.sleep(0.01)


class Gate:
    """Requests of a fault ``Call(gate.hold)`` wait here until the test opens it."""

    def __init__(self) -> None:
        self.reached, self._open = asyncio.Event(), asyncio.Event()

    async def hold(self) -> None:
        self.reached.set()
        await self._open.wait()

    def open(self) -> None:
        self._open.set()


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """A real S3 server; the tests that use it are skipped, with the reason, where it is not installed."""
    if reason := swift_missing():
        pytest.skip(reason)
    with SwiftServer(tmp_path_factory.mktemp("swift")) as server:
        yield server


@pytest.fixture(scope="session")
def ceph() -> Iterator[CephServer]:
    """The gateway that the source itself seems to be; only for the tests that are marked so (`make test-ceph`)."""
    if reason := ceph_missing():
        pytest.skip(reason)
    with CephServer() as server:
        yield server
