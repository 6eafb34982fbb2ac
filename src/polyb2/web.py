"""Health over HTTP while ``run`` or ``sync`` is up: ``/healthz`` says the process lives, ``/readyz`` that it can work.

Loopback unless ``POLYB2_HTTP_ADDR`` says otherwise; a port in use is a warning, never an error.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

log = logging.getLogger(__name__)


@asynccontextmanager
async def serve_health(address: str, problems: Callable[[], list[str]]) -> AsyncIterator[None]:
    """Serve health while the block runs.

    Args:
        address: ``host:port``; empty serves nothing.
        problems: what stands in the way of work now, in words; empty means ready.
    """
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    runner = web.AppRunner(_app(problems), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            log.warning("no health page on %s: %s; set POLYB2_HTTP_ADDR to a free address", address, error.strerror)
        yield
    finally:
        await runner.cleanup()


def _app(problems: Callable[[], list[str]]) -> web.Application:
    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        found = problems()
        return web.json_response(
            {"status": "not ready" if found else "ready", "reasons": found}, status=503 if found else 200
        )

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app
