"""The way to a side: no name, no listener, no trusted certificate, for one side or both, for a while or for good.

A connection that was never established charges no file, whatever the reason; a run that has patience goes on by itself.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path

from polyb2.sandbox.server import SandboxServer
from tests.faults.outside import AWAY_S, PATIENT
from tests.faults.scenes import Case, queued
from tests.faults.world import Scene, World

Break = Callable[[World, SandboxServer], Awaitable[None]]
SIDES = {"source": ("source",), "target": ("target",), "both sides": ("source", "target")}


def network_cases() -> Iterator[Case]:
    """All of them, in a stable order; those of TLS where openssl can make certificates."""
    for words, sides in SIDES.items():
        ways: list[tuple[str, Scene, Break]] = [
            ("name does not resolve", by_name, _lose_name),
            ("connection refused", queued, _stop),
            ("hangs up at once", queued, _hang_up),
            ("accepts and says nothing", queued, _keep_silent),
        ]
        for fault, scene, breaks in ways:
            yield from _for_a_while_and_for_good(words, fault, scene, breaks, sides)
    if shutil.which("openssl"):
        for words, sides in SIDES.items():
            for fault, breaks in (
                ("certificate of a stranger", _serve("stranger")),
                ("certificate for another name", _serve("other")),
                ("no TLS any more", _serve(None)),
            ):
                yield from _for_a_while_and_for_good(words, fault, over_tls, breaks, sides)


def _for_a_while_and_for_good(
    step: str, fault: str, scene: Scene, breaks: Break, sides: tuple[str, ...]
) -> Iterator[Case]:
    async def arm(world: World) -> None:
        for side in sides:
            await breaks(world, world.server(side))

    async def arm_and_cure(world: World) -> None:
        await arm(world)
        world.later(AWAY_S, world.cure_once_it_waits)

    yield Case(step, fault, "always", arm, scene, free=True)
    yield Case(step, fault, "once", arm_and_cure, scene, heals=True, free=True, settings=PATIENT)
    yield Case(
        step, f"{fault}, under a run that stays up", "once", arm_and_cure, scene, heals=True, free=True, watched=True
    )


# -- scenes ---------------------------------------------------------------------------------------------------------------


async def by_name(world: World) -> None:
    """Both sides are known by a name."""
    _name_endpoints(world, "localhost")
    await world.discover()


async def over_tls(world: World) -> None:
    """Both sides have certificates that are trusted."""
    for server in (world.box.source, world.box.target):
        await server.stop()
        await server.start(tls=_context("ours"))
    world.trust(_certificates() / "trusted.pem")
    _name_endpoints(world, "127.0.0.1")
    await world.discover()


def _name_endpoints(world: World, host: str) -> None:
    """The settings name the endpoints as they are now, whatever becomes of the servers."""
    given = world.box.environment()
    for name in ("POLYGON_S3_ENDPOINT_URL", "B2_ENDPOINT_URL"):
        world.settings[name.lower()] = given[name].replace("127.0.0.1", host)


# -- what breaks ----------------------------------------------------------------------------------------------------------


async def _lose_name(world: World, server: SandboxServer) -> None:
    world.lost_ports.add(server.port)
    world.cures.append(lambda: world.lost_ports.discard(server.port))


async def _stop(world: World, server: SandboxServer) -> None:
    tls = server.endpoint_url.startswith("https")
    await server.stop()

    async def start() -> None:
        await server.start(tls=_context("ours") if tls else None)

    world.cures.append(start)


async def _hang_up(world: World, server: SandboxServer) -> None:
    await _stand_in(world, server, silent=False)


async def _keep_silent(world: World, server: SandboxServer) -> None:
    await _stand_in(world, server, silent=True)


async def _stand_in(world: World, server: SandboxServer, *, silent: bool) -> None:
    """Something else listens on the port."""
    await _stop(world, server)
    start = world.cures.pop()
    held: list[asyncio.StreamWriter] = []

    def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer) if silent else writer.transport.abort()

    other = await asyncio.start_server(accepted, "127.0.0.1", server.port)

    async def give_back() -> None:
        other.close()
        for writer in held:
            writer.transport.abort()
        started = start()
        if started is not None:
            await started

    world.cures.append(give_back)


def _serve(name: str | None) -> Break:
    """The side comes back with another certificate, or with none."""

    async def breaks(world: World, server: SandboxServer) -> None:
        await server.stop()
        await server.start(tls=None if name is None else _context(name))

        async def put_right() -> None:
            await server.stop()
            await server.start(tls=_context("ours"))

        world.cures.append(put_right)

    return breaks


# -- certificates ---------------------------------------------------------------------------------------------------------

_FOLDER = tempfile.TemporaryDirectory(prefix="polyb2-certificates-")


@cache
def _certificates() -> Path:
    """A folder with ``ours``, a ``stranger``'s and one for an ``other`` name; ``trusted.pem`` has the first and the last."""
    folder = Path(_FOLDER.name)
    for name, subject in (("ours", "IP:127.0.0.1"), ("stranger", "IP:127.0.0.1"), ("other", "DNS:elsewhere.example")):
        words = (
            f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem -days 2"
        )
        words += f" -subj /CN={name} -addext subjectAltName={subject}"
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    trusted = (folder / "ours.pem").read_text() + (folder / "other.pem").read_text()
    (folder / "trusted.pem").write_text(trusted)
    return folder


def _context(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificates() / f"{name}.pem", _certificates() / f"{name}.key")
    return context
