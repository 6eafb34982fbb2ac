"""Ways between a run and the servers: relays that may be slow or go silent, and certificates for names of our own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from tests.faults.world import World

SIDES = {"source": "POLYGON_S3_ENDPOINT_URL", "target": "B2_ENDPOINT_URL"}
Toll = Callable[[int], Awaitable[bool]]
"""Asked before so many bytes go on; False lets neither them nor any later ones through."""
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CHUNK = 1 << 14


async def free(_count: int) -> bool:
    """No toll."""
    return True


def relay(port: int, toll: Callable[[], tuple[Toll, Toll]]) -> Callable[..., Awaitable[None]]:
    """What a server of asyncio does with a connection, to relay it to a port of this machine.

    Args:
        port: where to.
        toll: makes the tolls of a connection, there and back.
    """

    async def relaying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = toll()
        with suppress(OSError):
            await join((reader, writer), await asyncio.open_connection("127.0.0.1", port), there, back)

    return relaying


async def join(near: Stream, far: Stream, there: Toll = free, back: Toll = free) -> None:
    """Carry bytes both ways until both ends are through."""
    await asyncio.gather(_carry(near[0], far[1], there), _carry(far[0], near[1], back))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, toll: Toll) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            if not await toll(len(data)):
                return
            writer.write(data)
            await writer.drain()
    writer.close()


def certificate(folder: Path, names: list[str], *made_by: str) -> Path:
    """Make ``ours.pem`` and ``ours.key`` in a folder, for these names.

    Args:
        folder: where, readable for everybody.
        names: of hosts.
        made_by: a command that runs ``openssl``, as ``faketime`` does.
    """
    folder.chmod(0o755)
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ours.key -out ours.pem -days 2"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    command = [*made_by, "openssl", *words.split(), "-subj", "/CN=ours", "-addext", f"subjectAltName={alternatives}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "ours.pem"


async def serve_over_tls(world: World, folder: Path) -> None:
    """Start both servers again, with the certificate of a folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ours.pem", folder / "ours.key")
    for side in SIDES:
        await world.server(side).stop()
        await world.server(side).start(tls=context)
