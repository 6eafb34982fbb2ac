"""``/healthz``: the process lives. ``/readyz``: it can work, or in plain words what keeps it from that."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


def health_routes(problems: Callable[[], list[str]]) -> list[web.RouteDef]:
    """The two routes; ``problems`` tells what stands in the way of work now."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        found = problems()
        return web.json_response(
            {"status": "not ready" if found else "ready", "reasons": found}, status=503 if found else 200
        )

    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]
