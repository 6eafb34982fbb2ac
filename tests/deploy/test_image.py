"""What can be said of the image without an engine; ``tools/try-image.sh`` builds and runs it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from polyb2.config import Settings
from polyb2.web.server import health_routes
from tests.deploy.files import DOCKERFILE, HEALTHCHECK, ROOT, compose, words


async def asked(address: str | None) -> tuple[int, str]:
    """The health check's exit code and words, with that ``POLYB2_HTTP_ADDR``."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(HEALTHCHECK),
        env={} if address is None else {"POLYB2_HTTP_ADDR": address},
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


@asynccontextmanager
async def served(runner: web.BaseRunner, port: int = 0) -> AsyncIterator[str]:
    """The address of a server that is up while the block runs."""
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    host, found = runner.addresses[0]
    yield f"{host}:{found}"
    await runner.cleanup()


async def _internal_error(_request: web.BaseRequest) -> web.Response:
    return web.Response(status=500)


async def test_the_health_check_asks_the_page(unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    code, err = await asked(address)
    assert code == 1
    assert err.startswith(f"no answer from {address}: ")
    app = web.Application()
    app.add_routes(health_routes(lambda: ["B2 refuses the keys"]))
    async with served(web.AppRunner(app), unused_tcp_port):
        assert await asked(address) == (0, ""), "alive, though not ready"
        assert await asked(f"0.0.0.0:{unused_tcp_port}") == (0, "")


async def test_the_health_check_of_a_page_that_is_turned_off_has_nothing_to_say() -> None:
    assert await asked("") == (0, "")


async def test_the_health_check_wants_a_200() -> None:
    async with served(web.ServerRunner(web.Server(_internal_error))) as address:
        assert await asked(address) == (1, f"{address} answers 'HTTP/1.0 500 Internal Server Error'\n")


def test_the_health_check_knows_the_default_address() -> None:
    assert f'"{Settings().page.address}"' in HEALTHCHECK.read_text()
    assert HEALTHCHECK.name in DOCKERFILE.read_text()


def test_both_stages_have_the_same_base_of_a_supported_python() -> None:
    text = DOCKERFILE.read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}", "${BASE}"]
    (base,) = re.findall(r"^ARG BASE=python:(\S+)$", text, re.MULTILINE)
    version = base.partition("-")[0]
    assert f"Python :: {version}" in (ROOT / "pyproject.toml").read_text()


def test_the_base_can_be_named_by_its_digest_and_compose_has_the_same_default() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert compose()["services"]["polyb2"]["build"]["args"] == {"BASE": f"${{BASE:-{base}}}"}
    assert f"--build-arg BASE={base}@sha256:" in DOCKERFILE.read_text()


def test_no_secret_and_no_ledger_goes_to_the_engine() -> None:
    """Everything is kept out, but for what the Dockerfile copies."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    admitted = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = re.findall(r"^COPY ((?!--from).*) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert sources
    for source in sources:
        assert any(source == rule or source.startswith(f"{rule}/") for rule in admitted), source
    for rule in admitted:
        assert any(source == rule or source.startswith(f"{rule}/") for source in sources), rule


def test_sigterm_stops_it() -> None:
    text = DOCKERFILE.read_text()
    assert "\nSTOPSIGNAL SIGTERM\n" in text
    assert words("ENTRYPOINT") == ["polyb2"], "no shell between the engine and the program"
