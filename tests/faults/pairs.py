"""Surroundings of a run, each alone and each pair of two together: a small mirror, killed and stopped in between.

Somebody has the page open; a fifth of all requests is refused; a company's proxy, which alone knows the names, is in between;
the line is slow; the environment is another program's; the user is not root.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from polyb2.sandbox import Answer, Fault
from tests.daemons import SETPRIV, reserved_ports
from tests.faults.death import SYNC, killed, settled, start
from tests.faults.onlookers import Onlookers
from tests.faults.outside import Sometimes
from tests.faults.watch import must
from tests.faults.ways import SIDES, certificate, join, relay, serve_over_tls
from tests.faults.witnesses import damage_of, deleted_files
from tests.faults.world import MIB, World, a_world

REFUSED_SHARE = 0.2
LINE_BYTES_PER_S = 3 * MIB
NOBODY = "65534"
DRAINS_WITHIN_S = 10.0
ENDS_WITHIN_S = 90.0


@dataclass
class Place:
    """Where a run is.

    Attributes:
        world: its servers.
        seed: of what is random.
        ports: of the servers, as they are reached.
        environment: what the process has set beside the world's settings.
        before: the command that runs it.
        checks: say what does not hold at the end, beside the rest, or nothing.
    """

    world: World
    seed: int
    ports: dict[str, int]
    environment: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    checks: list[Callable[[], str]] = field(default_factory=list)

    def name_endpoints(self) -> None:
        """The settings name the ports."""
        for side, name in SIDES.items():
            self.environment[name] = f"http://127.0.0.1:{self.ports[side]}"


Surrounding = Callable[[Place], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def slow_line(place: Place) -> AsyncIterator[None]:
    """Every byte goes through relays that share a slow line, in each direction."""
    there, back = _Line(), _Line()
    async with AsyncExitStack() as stack:
        for side, port in place.ports.items():
            server = await asyncio.start_server(relay(port, lambda: (there.carry, back.carry)), "127.0.0.1", 0)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            place.ports[side] = server.sockets[0].getsockname()[1]
        place.name_endpoints()
        yield


class _Line:
    """So many bytes a second, whoever sends them."""

    def __init__(self) -> None:
        self._free_at_s = 0.0

    async def carry(self, count: int) -> bool:
        now_s = asyncio.get_running_loop().time()
        self._free_at_s = max(self._free_at_s, now_s) + count / LINE_BYTES_PER_S
        await asyncio.sleep(self._free_at_s - now_s)
        return True


@asynccontextmanager
async def proxied(place: Place) -> AsyncIterator[None]:
    """Both sides are known to a proxy alone, by names that do not resolve, and have certificates of a private authority."""
    names = {f"{side}.example": side for side in place.ports}
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        method, where, _ = head.split(" ", 2)
        host = where.rpartition(":")[0]
        asked.append(f"{method} {host}")
        if method != "CONNECT" or host not in names:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        far = await asyncio.open_connection("127.0.0.1", place.ports[names[host]])
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join((reader, writer), far)

    with tempfile.TemporaryDirectory(prefix="polyb2-proxy-") as folder:
        trusted = certificate(Path(folder), list(names))
        await serve_over_tls(place.world, Path(folder))
        proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
        place.environment |= {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}",
                              "SSL_CERT_FILE": str(trusted)}  # fmt: skip
        place.environment |= {name: f"https://{side}.example" for side, name in SIDES.items()}
        wanted = {f"CONNECT {name}" for name in names}
        place.checks.append(lambda: "" if set(asked) == wanted else f"the proxy was asked for {set(asked)}")
        try:
            yield
        finally:
            proxy.close()


@asynccontextmanager
async def page_open(place: Place) -> AsyncIterator[None]:
    """Somebody looks at the page and the metrics all the time."""
    with reserved_ports(1) as (port,):
        place.environment["POLYB2_HTTP_ADDR"] = f"127.0.0.1:{port}"
        onlookers = Onlookers(place.environment["POLYB2_HTTP_ADDR"])
        async with onlookers.looking():
            place.checks.append(lambda: "" if onlookers.looks else "the page was never seen")
            place.checks.append(lambda: "; ".join(onlookers.troubles[:3]))
            yield


@asynccontextmanager
async def refusals(place: Place) -> AsyncIterator[None]:
    """A fifth of all requests is refused, whatever their rate, on both sides."""
    again = Answer(503, "ServiceUnavailable", "no tomes available")
    slow_down = Answer(503, "SlowDown", headers={"Retry-After": "1"})
    for number, side in enumerate(SIDES):
        action = Sometimes([again, again, again, slow_down], REFUSED_SHARE, place.seed + number)
        place.world.server(side).inject(Fault("*", action, times=0))
    yield


@asynccontextmanager
async def another_programs_environment(place: Place) -> AsyncIterator[None]:
    """What other tools and other people set, most of it broken."""
    folder = place.world.folder
    (folder / "aws-config").write_text("[default\nregion = \x00")
    place.environment |= {
        "AWS_PROFILE": "work",
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null/nowhere",
        "AWS_RETRY_MODE": "bananas",
        "AWS_MAX_ATTEMPTS": "none",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_CA_BUNDLE": "/nowhere.pem",
        "BOTO_CONFIG": "/nowhere",
        "HOME": "/nonexistent",
        "LANG": "C",
        "LC_ALL": "C",
        "TERM": "no-such-terminal",
        "COLUMNS": "0",
        "no_proxy": "nothing.example",
        "POLYGON_API_KEY": "another tool's",
    }
    yield


@asynccontextmanager
async def ordinary_user(place: Place) -> AsyncIterator[None]:
    """A user who may write nothing but the folder of the ledger; where this is none but root, who then stays what it is."""
    if os.geteuid():
        yield
        return
    for path in (place.world.folder, *place.world.folder.iterdir()):
        os.chown(path, int(NOBODY), int(NOBODY))
    place.before = (str(SETPRIV), "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
    yield


# In this order: the slow line moves the ports that the proxy leads to, and the user gets the files that others made.
SURROUNDINGS: dict[str, Surrounding] = {
    "a slow line": slow_line,
    "a proxy in between": proxied,
    "the page open": page_open,
    "a fifth of all refused": refusals,
    "another program's environment": another_programs_environment,
    "an ordinary user": ordinary_user,
}


def combinations() -> Iterator[tuple[str, ...]]:
    """Each alone, and each pair."""
    for size in (1, 2):
        yield from itertools.combinations(SURROUNDINGS, size)


async def mirrored_in(names: tuple[str, ...], seed: int) -> str:
    """Mirror three files in these surroundings, with a kill and a stop in between.

    Raises:
        ViolationError: a guarantee did not hold.
    """
    chance = random.Random(seed)
    async with a_world() as world, AsyncExitStack() as stack:
        place = Place(world, seed, {side: world.server(side).port for side in SIDES})
        for name in names:
            await stack.enter_async_context(SURROUNDINGS[name](place))
        killed_after = await _one(place, chance.uniform(0.1, 1.5), signal.SIGKILL)
        stopped_after = await _one(place, chance.uniform(0.1, 1.5), signal.SIGTERM)
        await _one(place, ENDS_WITHIN_S, None)
        await _check(place)
    return f"killed after {killed_after}, stopped after {stopped_after} requests"


async def _one(place: Place, seconds: float, end: signal.Signals | None) -> int:
    """One process; how many requests it had made when it was ended, or ended."""
    world = place.world
    servers = (world.box.source, world.box.target)
    asked = sum(len(server.requests) for server in servers)
    extra = {"POLYB2_MAX_RETRIES": "1", "POLYB2_DRAIN_SECONDS": "5"} | place.environment
    with tempfile.TemporaryFile() as told:
        process = await start(world, *SYNC, told=told, out=None, before=place.before, **extra)
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                while sum(len(server.requests) for server in servers) == asked and process.returncode is None:
                    await asyncio.sleep(0.01)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), seconds)
            had = sum(len(server.requests) for server in servers) - asked
            must(end or process.returncode is not None, f"the run did not end within {ENDS_WITHIN_S:g} s")
            if end and process.returncode is None:
                process.send_signal(end)
                await asyncio.wait_for(process.wait(), DRAINS_WITHIN_S)
        finally:
            code = await killed(process)
        told.seek(0)
        said = told.read().decode(errors="replace")[-500:]
    await settled(world)
    allowed = {0} if end is None else {0, -end, 128 + end}
    must(code in allowed, f"a run that was to end by {end.name if end else 'itself'} ended with {code}: {said}")
    return had


async def _check(place: Place) -> None:
    world = place.world
    await world.check_after()
    must(not (damage := damage_of(world.folder / "ledger.db")), damage)
    must(not (held := deleted_files(world.folder / "ledger.db")), f"deleted files of the ledger are held: {held}")
    for complaint in place.checks:
        must(not (words := complaint()), words)
