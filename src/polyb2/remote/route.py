"""The one way out for requests with bodies: a GET whose answer is passed on, a PUT of a relayed or complete body.

Nothing else opens a data connection (``tests/remote/test_route.py`` looks), so that none can be opened without what
``Guard.body`` puts together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from polyb2.remote.guard import Guard
from polyb2.remote.pump import Incoming
from polyb2.remote.relay import AtHand, Relay
from polyb2.remote.sessions import Http

Check = Callable[[aiohttp.ClientResponse], Awaitable[None]]
"""Raises the error of an answer's head (of a PUT: also its body), unless it is the one that was asked for."""


class Route:
    """The data path of one side."""

    def __init__(self, http: Http, guard: Guard) -> None:
        self._http = http
        self._guard = guard

    @asynccontextmanager
    async def get(
        self, url: str, headers: Mapping[str, str], check: Check, *, fresh: bool, onward: Guard | None = None
    ) -> AsyncIterator[Incoming]:
        """The body of an answer that passed ``check``; it is sent ``onward`` through another guard, if one is given."""
        async with self._guard.body("get", onward=onward) as watch:
            asked = self._session(fresh).get(URL(url, encoded=True), headers=headers, allow_redirects=False)
            response = await self._guard.meters.answer(self._guard.side, "get", asked)
            try:
                watch.receives(response.connection.transport if response.connection is not None else None)
                await check(response)
                watch.answered()
                yield Incoming(response, watch)
            finally:
                # A body that was not read to its end is not drained: the connection is closed.
                if not response.content.is_eof():
                    response.close()

    async def put(
        self, operation: str, url: str, headers: Mapping[str, str], body: Relay | bytes, check: Check, *, fresh: bool
    ) -> Mapping[str, str]:
        """Send a body; return the headers of the answer, which passed ``check``."""
        within = body.watch if isinstance(body, Relay) else None
        async with self._guard.body(operation, within=within) as watch:
            watch.receiver = self._guard.side
            data = body.as_payload(watch) if isinstance(body, Relay) else AtHand(body, watch)
            try:
                async with self._session(fresh).put(
                    URL(url, encoded=True), data=data, headers=headers, allow_redirects=False
                ) as response:
                    await check(response)
                    return response.headers
            except aiohttp.ClientError:
                # An error of the body's writer comes back as an error of this connection.
                if isinstance(body, Relay) and body.failure is not None:
                    raise body.failure from None
                raise

    def _session(self, fresh: bool) -> aiohttp.ClientSession:
        return self._http.session(fresh=fresh)
