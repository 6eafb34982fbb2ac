"""A run with its page, in process, for as long as a test needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from polyb2.engine import RunOptions, run
from polyb2.flow.discover.consent import Consent
from polyb2.flow.mirror import Mirror
from polyb2.flow.run.breaker import CircuitBreaker
from polyb2.session import open_mirror
from polyb2.web.connections import Timing
from polyb2.web.server import serve
from polyb2.web.snapshot import Observed
from tests.conftest import Bench
from tests.web.chromium import Tab, browser, chromium_missing
from tests.web.scene import free_port, running


@dataclass(frozen=True)
class Answer:
    """An answer to a request."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Site:
    """The page of a run that is up, and the run's mirror."""

    url: str
    mirror: Mirror
    session: aiohttp.ClientSession

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        async with self.session.request(method, self.url + path, headers=headers, allow_redirects=False) as response:
            return Answer(response.status, dict(response.headers), await response.text())


Serving = Callable[..., AbstractAsyncContextManager[Site]]
Showing = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def serving(bench: Bench) -> Serving:
    """Runs ``run --watch`` while a block lasts; keywords are settings."""

    @asynccontextmanager
    async def serve(host: str = "127.0.0.1", **settings: Any) -> AsyncIterator[Site]:
        port = free_port()
        given = {"polyb2_datasets": ["*/*"]} | settings
        configured = bench.configured(polyb2_http_addr=f"{host}:{port}", **given)
        url = f"http://127.0.0.1:{port}"
        async with (
            running(lambda start: run(configured, _watching(start))) as mirror,
            aiohttp.ClientSession() as session,
        ):
            site = Site(url, mirror, session)
            await _answering(site)
            yield site

    return serve


@pytest.fixture
def showing(bench: Bench) -> Showing:
    """Shows the mirror of a run that does nothing while a block lasts; ``timing`` is that of connections."""

    @asynccontextmanager
    async def show(host: str = "127.0.0.1", timing: Timing | None = None) -> AsyncIterator[Site]:
        port = free_port()
        async with open_mirror(bench.configured()) as mirror, aiohttp.ClientSession() as session:
            observed = Observed(mirror, ("*/*",), lambda: True, list)
            async with serve(f"{host}:{port}", observed, timing=timing):
                yield Site(f"http://127.0.0.1:{port}", mirror, session)

    return show


def _watching(start: Callable[[Mirror, CircuitBreaker], None]) -> RunOptions:
    return RunOptions(None, watch=True, limit=None, consent=Consent(10**15), on_start=start)


async def _answering(site: Site) -> None:
    while True:
        try:
            await site.get("/healthz")
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.01)
        else:
            return


@pytest.fixture
async def tab() -> AsyncIterator[Tab]:
    """A tab of a real browser; the tests that use it are skipped, with the reason, where there is none."""
    if reason := chromium_missing():
        pytest.skip(reason)
    async with browser() as opened:
        yield opened
