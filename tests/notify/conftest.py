"""A real HTTP server that takes messages and pings, and refuses or keeps silent on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web


@dataclass
class Mailbox:
    """The messages that arrived.

    Attributes:
        port: on loopback.
        messages: the bodies of apprise's JSON service.
        pings: method, path and body of the requests to the monitor's path.
        status: the answer to messages and pings.
        elsewhere: the target of a redirect.
        logins: the Authorization headers that arrived.
        answers: while it is cleared, nothing is answered.
    """

    port: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    pings: list[tuple[str, str, str]] = field(default_factory=list)
    status: int = 200
    elsewhere: str = ""
    logins: list[str] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/t0ken"

    @property
    def ping_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ping/t0ken"

    @property
    def settings(self) -> dict[str, Any]:
        return {"polyb2_notify_urls": self.url, "polyb2_ping_url": self.ping_url}

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    async def take(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.logins += request.headers.getall("Authorization", [])
        if request.path.startswith("/ping"):
            self.pings.append((request.method, request.path, body))
        else:
            self.messages.append(json.loads(body))
        await self.answers.wait()
        return web.Response(status=self.status, headers={"Location": self.elsewhere} if self.elsewhere else {})


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    box = Mailbox()
    box.answers.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", box.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    box.port = runner.addresses[0][1]
    try:
        yield box
    finally:
        await runner.cleanup()
