"""The HTTP server: routes, health, and the checks and headers that every answer has.

Invariants: GET and HEAD only; the page loads and runs nothing from elsewhere (CSP); on every address only IP literals,
loopback's names and those of ``POLYB2_HTTP_HOSTS`` are answered, so that a foreign page cannot read this one by a name that
it points here; a port in use is a warning, never an error. Only ``Engine._serving`` imports this module, and only for a run
with a page: no other command loads jinja2, prometheus_client or aiohttp's server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from polyb2.core.errors import LedgerError
from polyb2.core.hosts import is_address
from polyb2.web.connections import Connections, Timing
from polyb2.web.metrics import Metrics
from polyb2.web.pages import Pages
from polyb2.web.render import problem_page
from polyb2.web.snapshot import Observed, Snapshots

log = logging.getLogger(__name__)
requests_log = logging.getLogger("polyb2.web.requests")
# A request that is not HTTP is answered 400; a port scanner must not fill the log with tracebacks.
requests_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
IDLE_S = 30.0
END_S = 1.0
"""The longest that answers under way may delay the end."""
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
async def serve(
    address: str, observed: Observed, names: Collection[str] = (), timing: Timing | None = None
) -> AsyncIterator[None]:
    """Serve health, metrics and the page while the block runs.

    ``address`` is ``host:port``; ``names`` are host names that are answered, beside loopback's, IP literals and that host.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    snapshots = Snapshots(observed)
    connections = Connections(lambda: _protocol(runner), timing or Timing())
    runner = web.AppRunner(
        _app({host.lower(), *names}, snapshots, connections),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=END_S,
        keepalive_timeout=IDLE_S,
        logger=requests_log,
    )
    await runner.setup()
    sampling = asyncio.create_task(snapshots.rates.run(), name="rates")
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
        await snapshots.close()


def _protocol(runner: web.AppRunner) -> asyncio.Protocol:
    assert runner.server is not None  # noqa: S101 - it is set up
    return runner.server()


def _app(names: Collection[str], snapshots: Snapshots, connections: Connections) -> web.Application:
    metrics, pages = Metrics(snapshots), Pages(snapshots)

    async def exposed(request: web.Request) -> web.Response:
        text, content_type = await metrics.text(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    app = web.Application(middlewares=[_guarded(names, connections)])
    app.add_routes([*health_routes(snapshots.observed.problems), web.get("/metrics", exposed), *pages.routes()])
    return app


def health_routes(problems: Callable[[], list[str]]) -> list[web.RouteDef]:
    """``/healthz``: the process lives. ``/readyz``: it can work, or in plain words what keeps it from that."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        found = problems()
        return web.json_response(
            {"status": "not ready" if found else "ready", "reasons": found}, status=503 if found else 200
        )

    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]


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


def is_ours(named: str | None, names: Collection[str]) -> bool:
    """Tell whether a Host header, None if there is none, names an IP address, loopback or one of ``names``.

    A foreign page that points a name of its own here makes the browser send that name. An address cannot be pointed
    anywhere else, and a request without the header does not come from a browser.
    """
    if named is None:
        return True
    try:
        name = (URL(f"http://{named}").host or "").lower().removesuffix(".")
    except ValueError:
        return False
    return is_address(name) or name == "localhost" or name.endswith(".localhost") or name in names
