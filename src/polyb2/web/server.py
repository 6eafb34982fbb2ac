"""The HTTP server: routes, and what stands around every answer.

Invariants: GET and HEAD only; nothing from elsewhere is loaded or run (CSP); on every address only IP literals, loopback's
names and those of ``POLYB2_HTTP_HOSTS`` are answered, so that a foreign page cannot read this one by a name that it points
here; a port in use is a warning, never an error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from polyb2.core.errors import LedgerError
from polyb2.web.connections import Connections
from polyb2.web.health import health_routes
from polyb2.web.metrics import Metrics
from polyb2.web.pages import Pages
from polyb2.web.shell import problem_page
from polyb2.web.sight import Sight, Subject

log = logging.getLogger(__name__)
requests_log = logging.getLogger("polyb2.web.requests")
# What is no HTTP is answered 400; a port scanner must not fill the log with tracebacks.
requests_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
IDLE_S = 30.0
END_S = 1.0
"""For how long answers under way may hold up the end."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@asynccontextmanager
async def serve(address: str, subject: Subject, names: Collection[str] = ()) -> AsyncIterator[None]:
    """Serve health, metrics and the page while the block runs.

    Args:
        address: ``host:port``.
        subject: what is looked at.
        names: host names under which it answers, beside loopback's, IP literals and the host of ``address``.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    sight = Sight(subject)
    connections = Connections(lambda: _protocol(runner))
    runner = web.AppRunner(
        _app({host.lower(), *names}, sight, connections),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=END_S,
        keepalive_timeout=IDLE_S,
        logger=requests_log,
    )
    await runner.setup()
    sampling = asyncio.create_task(sight.rates.run(), name="rates")
    try:
        try:
            await connections.listen(host, int(port))
        except OSError as error:
            log.warning("no health page on %s: %s; set POLYB2_HTTP_ADDR to a free address", address, error.strerror)
            await connections.close()
        yield
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        await connections.close()
        await runner.cleanup()
        await sight.close()


def _protocol(runner: web.AppRunner) -> asyncio.Protocol:
    assert runner.server is not None  # noqa: S101 - it is set up
    return runner.server()


def _app(names: Collection[str], sight: Sight, connections: Connections) -> web.Application:
    metrics, pages = Metrics(sight), Pages(sight)

    async def exposed(request: web.Request) -> web.Response:
        text, content_type = await metrics.text(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    app = web.Application(middlewares=[_guarded(names, connections)])
    app.add_routes([*health_routes(sight.subject.problems), web.get("/metrics", exposed), *pages.routes()])
    return app


def _guarded(names: Collection[str], connections: Connections) -> Middleware:
    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        connections.asked(request.transport)
        if not is_ours(request.headers.get("Host"), names):
            words = "Open it by an IP address or a loopback name, or put the name into POLYB2_HTTP_HOSTS."
            answer: web.StreamResponse = problem_page(421, "Not by this name", words)
        elif request.method not in {"GET", "HEAD"}:
            answer = problem_page(405, "This page only shows", "It answers GET and HEAD; use the command line to act.")
            answer.headers["Allow"] = "GET, HEAD"
        else:
            answer = await _answered(request, handler)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    return guarded


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound as error:
        return problem_page(404, "Not here", error.text or "")
    except web.HTTPException as error:
        return problem_page(error.status, error.reason, error.text or "")
    except LedgerError as error:
        return problem_page(503, "The ledger cannot be read just now", str(error))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def is_ours(named: str | None, names: Collection[str]) -> bool:
    """Whether a Host header, None if there is none, names an IP address, loopback or one of ``names``.

    Who points a name of their own here gets a browser to send that name; an address cannot be pointed anywhere, and
    without the header it is no browser.
    """
    if named is None:
        return True
    try:
        name = (URL(f"http://{named}").host or "").lower().removesuffix(".")
    except ValueError:
        return False
    return _is_address(name) or is_loopback(name) or name in names


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
