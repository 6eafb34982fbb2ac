"""Names, addresses and certificates that are slow, dead, half-open or renewed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from polyb2.sandbox import Drip, Fault
from tests.faults.death import SYNC
from tests.faults.places.place import (
    Place,
    Play,
    ended,
    in_mounts,
    place,
    until_asked,
)
from tests.faults.watch import must
from tests.faults.ways import SIDES, Toll, certificate, relay, serve_over_tls
from tests.faults.world import MIB, World


class _Relays:
    """The servers, reached through relays, on another address; ``freeze`` makes all connections half-open."""

    def __init__(self, world: World, address: str) -> None:
        self.env: dict[str, str | None] = {}
        self._world = world
        self._address = address
        self._servers: list[asyncio.Server] = []
        self._frozen: list[asyncio.Event] = []

    async def __aenter__(self) -> Self:
        for side, name in SIDES.items():
            server = await asyncio.start_server(relay(self._world.server(side).port, self._tolls), self._address, 0)
            self._servers.append(server)
            host = f"[{self._address}]" if ":" in self._address else self._address
            self.env[name] = f"http://{host}:{server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()

    def freeze(self) -> int:
        """No byte passes any more on the connections that there are, and neither end hears of it; how many there are."""
        for frozen in self._frozen:
            frozen.set()
        return len(self._frozen)

    @asynccontextmanager
    async def moved(self, address: str) -> AsyncIterator[None]:
        """The same ports on another address; the old one refuses, and what was connected to it goes silent."""
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        for server in self._servers:
            server.close()
        self.freeze()
        for port, side in zip(ports, SIDES, strict=True):
            passing = relay(self._world.server(side).port, self._tolls)
            self._servers.append(await asyncio.start_server(passing, address, port))
        yield

    def _tolls(self) -> tuple[Toll, Toll]:
        frozen = asyncio.Event()
        self._frozen.append(frozen)

        async def toll(_count: int) -> bool:
            return not frozen.is_set()

        return toll, toll


@place("the way is cut in mid-run, and neither end hears of it")
async def _half_open(world: World) -> str:
    world.box.source.inject(Fault("get", Drip(4 * MIB), times=0))
    async with _Relays(world, "127.0.0.1") as relays:
        process = await Place(world, env=relays.env | {"POLYB2_STALL_TIMEOUT": "2s"}).start(*SYNC)
        await until_asked(world, process)
        await asyncio.sleep(1)
        cut = relays.freeze()
        said = await ended(process)
    must(said.code == 0, f"ended with {said.code}: {said.err[-400:]}")
    await world.check_after()
    return f"mirrored, {cut} connections were cut"


@place("IPv6 only: [::1] in the endpoints and for the page")
async def _ipv6(world: World) -> str:
    async with _Relays(world, "::1") as relays:
        return await Place(world, env=relays.env | {"POLYB2_HTTP_ADDR": "[::1]:0"}).mirrors()


@place("a name with two addresses, one of them dead", "root unshare")
async def _dead_address(world: World) -> str:
    hosts = world.folder / "hosts"
    hosts.write_text("127.0.0.9 localhost\n127.0.0.1 localhost\n::1 localhost\n")
    env: dict[str, str | None] = {
        "POLYGON_S3_ENDPOINT_URL": f"http://localhost:{world.box.source.port}",
        "B2_ENDPOINT_URL": f"http://localhost:{world.box.target.port}",
    }
    return await Place(world, before=in_mounts(f"mount --bind {hosts} /etc/hosts"), env=env).mirrors()


class _Names(asyncio.DatagramProtocol):
    """A name server that answers late, and every other time with a dead address first."""

    def __init__(self, late_s: float) -> None:
        self.asked = 0
        self._late_s = late_s
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.asked += 1
        end = data.index(b"\0", 12) + 5
        wanted = int.from_bytes(data[end - 4 : end - 2], "big")
        addresses = [(127, 0, 0, 9), (127, 0, 0, 1)][:: 1 if self.asked % 2 else -1] if wanted == 1 else []
        answers = b"".join(b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04" + bytes(address) for address in addresses)
        head = data[:2] + b"\x81\x80\0\x01" + len(addresses).to_bytes(2, "big")
        answer = head + b"\0\0\0\0" + data[12:end] + answers
        transport = self._transport
        if transport is not None:
            asyncio.get_running_loop().call_later(self._late_s, transport.sendto, answer, addr)


@place("names that are answered after two seconds, a dead address among them", "root unshare openssl")
async def _slow_names(world: World) -> str:
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(lambda: _Names(2.0), ("127.0.0.53", 53))
    (world.folder / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    try:
        async with _over_tls(world) as env:
            before = in_mounts(f"mount --bind {world.folder}/resolv.conf $(realpath /etc/resolv.conf)")
            note = await Place(world, before=before, env=env | {"POLYB2_GIVE_UP": "30s"}).mirrors()
    finally:
        transport.close()
    must(names.asked, "the name server was never asked")
    return f"{note}, {names.asked} questions"


@asynccontextmanager
async def _over_tls(world: World, *made_by: str) -> AsyncIterator[dict[str, str | None]]:
    """Both sides under names, with a certificate of their own."""
    with tempfile.TemporaryDirectory(prefix="polyb2-tls-") as folder:
        path = Path(folder)
        names = [f"{side}.example" for side in SIDES]
        certificate(path, names, *made_by)
        await serve_over_tls(world, path)
        env: dict[str, str | None] = {"SSL_CERT_FILE": str(path / "ours.pem")}
        env |= {name: f"https://{side}.example:{world.server(side).port}" for side, name in SIDES.items()}
        yield env


@place("certificates that expired yesterday", "root unshare openssl faketime")
async def _expired(world: World) -> str:
    async with _over_tls(world, "faketime", "-f", "-3d") as env:
        return await _named(world, env).refuses("expired", 4)


@place("certificates that are renewed under a run", "root unshare openssl")
async def _renewed(world: World) -> str:
    world.box.source.inject(Fault("get", Drip(4 * MIB), times=0))
    with tempfile.TemporaryDirectory(prefix="polyb2-tls-") as newer:
        made = certificate(Path(newer), [f"{side}.example" for side in SIDES])
        async with _over_tls(world) as env:
            # Both are trusted from the start, as two of one authority would be.
            trusted = Path(str(env["SSL_CERT_FILE"]))
            trusted.write_bytes(trusted.read_bytes() + made.read_bytes())
            process = await _named(world, env | {"POLYB2_GIVE_UP": "30s"}).start(*SYNC)
            await until_asked(world, process)
            await serve_over_tls(world, Path(newer))
            said = await ended(process)
    must(said.code == 0, f"ended with {said.code}: {said.err[-400:]}")
    await world.check_after()
    return "mirrored"


@place("names that move to another address under a run, while the old one goes dead", "root unshare openssl")
async def _moved(world: World) -> str:
    world.box.source.inject(Fault("get", Drip(4 * MIB), times=0))
    old, new, hosts = "127.0.0.2", "127.0.0.3", world.folder / "hosts"
    async with _over_tls(world) as env, _Relays(world, old) as relays:
        for side, name in SIDES.items():
            env[name] = f"https://{side}.example:{(relays.env[name] or '').rpartition(':')[2]}"
        there = _named(world, env | {"POLYB2_GIVE_UP": "45s", "POLYB2_STALL_TIMEOUT": "5s"}, old)
        process = await there.start(*SYNC)
        await until_asked(world, process)
        await asyncio.sleep(0.5)
        hosts.write_text(hosts.read_text().replace(old, new))
        async with relays.moved(new):
            said = await ended(process)
    must(said.code == 0, f"ended with {said.code}: {said.err[-400:]}")
    await world.check_after()
    return "mirrored"


def _named(world: World, env: dict[str, str | None], address: str = "127.0.0.1") -> Place:
    """Where the names of both sides lead to an address of this machine."""
    hosts = world.folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{address} source.example target.example\n")
    return Place(world, before=in_mounts(f"mount --bind {hosts} /etc/hosts"), env=env)


_TLS_ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "SSLKEYLOGFILE where nobody may write": {"SSLKEYLOGFILE": "/nonexistent/keys.log"},
    "OPENSSL_CONF that is not there": {"OPENSSL_CONF": "/nonexistent/openssl.cnf"},
    "OPENSSL_CONF and OPENSSL_MODULES that are broken": {
        "OPENSSL_CONF": "/etc/passwd",
        "OPENSSL_MODULES": "/nonexistent",
    },
}


def _over_tls_in(extra: dict[str, str | None]) -> Play:
    async def play(world: World) -> str:
        async with _over_tls(world) as env:
            return await _named(world, env | extra).mirrors()

    return play


for _words, _extra in _TLS_ENVIRONMENTS.items():
    place(_words, "root unshare openssl")(_over_tls_in(_extra))
