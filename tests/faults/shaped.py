"""A real line: both servers in one network namespace, polyb2 in another, between them two interfaces that are shaped.

Both ends have addresses of loopback, which is routed here, so that plain HTTP is allowed. Each direction has its own rate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from polyb2.sandbox import GeneratedGzip, Sandbox, scenario
from tests.faults.watch import must

NEAR, FAR = "127.9.0.1", "127.9.0.2"
QUEUE_S, QUEUE_BYTES = 0.2, 16_000
"""How long the queue of a direction may get, and what it holds in any case, as in a plain modem."""
DATASET = "us_stocks_sip/day_aggs_v1"
_ROOT = Path(__file__).parents[2]
KBIT, MBIT, GBIT = 1_000, 1_000_000, 1_000_000_000


@dataclass(frozen=True)
class Shape:
    """A line, and what is sent over it; bits a second, bytes, seconds."""

    words: str
    up: int
    down: int
    files: int
    size: int
    streams: int = 32
    stall_s: float = 60.0
    share_min: float = 0.8
    """Of what the slower direction carries."""

    @property
    def least_s(self) -> float:
        """What the line needs for it."""
        return self.files * self.size * 8 / min(self.up, self.down)


SHAPES = (
    Shape("64 kbit/s, small files", 64 * KBIT, 64 * KBIT, 24, 20_000, 4, 10.0, share_min=0.6),
    Shape("64 kbit/s up, 32 slots", 64 * KBIT, 100 * MBIT, 16, 40_000, 32, 10.0),
    Shape("480 kbit/s up, stall time-out 10 s", 480 * KBIT, 100 * MBIT, 2, 2_500_000, 4, 10.0),
    Shape("480 kbit/s down, stall time-out 10 s", 100 * MBIT, 480 * KBIT, 2, 2_500_000, 4, 10.0),
    Shape("1 Mbit/s, the defaults", 1 * MBIT, 1 * MBIT, 4, 5_000_000),
    Shape("1 Mbit/s up, the defaults", 1 * MBIT, 100 * MBIT, 4, 5_000_000),
    Shape("10 Mbit/s, many small files", 10 * MBIT, 10 * MBIT, 400, 60_000, share_min=0.6),
    Shape("10 Mbit/s", 10 * MBIT, 10 * MBIT, 4, 10_000_000, 32, 10.0),
    Shape("100 Mbit/s", 100 * MBIT, 100 * MBIT, 4, 60_000_000),
    Shape("1 Gbit/s", GBIT, GBIT, 4, 200_000_000, share_min=0.2),
    Shape("10 Gbit/s", 10 * GBIT, 10 * GBIT, 4, 200_000_000, share_min=0.02),
)
"""Above 100 Mbit/s two processes on one machine are what the bytes wait for: there it is for nothing being sent twice."""
QUICK = Shape("1 Mbit/s up, stall time-out 4 s", 1 * MBIT, 100 * MBIT, 4, 300_000, 32, 4.0, share_min=0.4)


def missing() -> str:
    """Why no such line can be made here; empty if it can."""
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc"))):
        return "needs Linux, root, ip and tc"
    try:
        with _line(Shape("", MBIT, MBIT, 0, 0)):
            return ""
    except subprocess.CalledProcessError as error:
        return f"no network namespaces with a shaped line: {error.stderr.decode().strip()}"


async def send_over(shape: Shape) -> str:
    """Mirror the files of a shape over its line.

    Raises:
        ViolationError: something was sent twice, took too long, or did not arrive.
    """
    with _line(shape) as (near, far), tempfile.TemporaryDirectory() as folder:
        async with _servers(far, shape) as (environment, told):
            began_s = time.monotonic()
            code, said = await _sync(near, shape, environment, Path(folder))
            seconds = time.monotonic() - began_s
    must(code == 0, f"it ended with {code}: {said[-600:]}")
    again = {name: times for name, times in told.items() if times > 1}
    must(not again, f"sent more than once: {again}")
    share = shape.least_s / seconds
    must(share >= shape.share_min, f"{share:.0%} of the line were used, {seconds:.0f} s instead of {shape.least_s:.0f}")
    return f"{share:.0%} of the line in {seconds:.0f} s, nothing sent twice"


async def _sync(near: str, shape: Shape, environment: dict[str, str], folder: Path) -> tuple[int | None, str]:
    settings = {
        "PATH": os.environ["PATH"],
        **environment,
        "DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "POLYB2_HTTP_ADDR": "",
        "POLYB2_STALL_TIMEOUT": str(shape.stall_s),
        "POLYB2_RETRY_BASE": "1s",
    }
    words = ["-m", "polyb2", "sync", "--historical", "--dataset", DATASET, "--concurrency", str(shape.streams)]
    process = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", near, sys.executable, *words, env=settings, cwd=folder,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        _, said = await asyncio.wait_for(process.communicate(), 20 + 3 * shape.least_s)
    except TimeoutError:
        process.kill()
        _, said = await process.communicate()
        return None, said.decode()
    return process.returncode, said.decode()


# -- the servers, in a process of their own -------------------------------------------------------------------------------


@asynccontextmanager
async def _servers(far: str, shape: Shape) -> AsyncIterator[tuple[dict[str, str], Counter[str]]]:
    """Their settings, and, once they have ended, how often each body was asked for or sent."""
    words = ["-m", "tests.faults.shaped", "--files", str(shape.files), "--size", str(shape.size)]
    process = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", far, sys.executable, *words, stdout=asyncio.subprocess.PIPE, cwd=_ROOT
    )
    assert process.stdout is not None
    told: Counter[str] = Counter()
    try:
        yield json.loads(await process.stdout.readline()), told
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = await process.communicate()
        told.update(json.loads(rest))


async def _serve(files: int, size: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    box = Sandbox(hashes_only=True)
    box.source.host = box.target.host = FAR
    async with box:
        for count in range(files):
            key = scenario.key_of(DATASET, date(2024, 1, 2) + timedelta(days=count))
            content = GeneratedGzip(size) if size > (1 << 20) else os.urandom(size)
            box.source.put(key, content)
        _tell(box.environment())
        await stop.wait()
        bodies: Counter[str] = Counter()
        for item in (*box.source.requests, *box.target.requests):
            if item.operation in {"get", "put", "upload_part"}:
                bodies[f"{item.operation} {item.key} {item.part or item.range}"] += 1
        _tell(bodies)


def _tell(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


# -- the line -------------------------------------------------------------------------------------------------------------


@contextmanager
def _line(shape: Shape) -> Iterator[tuple[str, str]]:
    """Two namespaces with the line between them."""
    near, far = (f"polyb2-{os.getpid()}-{end}" for end in ("near", "far"))
    ends = ((near, "line-n", NEAR, shape.up), (far, "line-f", FAR, shape.down))
    try:
        for name, *_ in ends:
            _run("ip", "netns", "add", name)
        _run("ip", "-n", near, "link", "add", "line-n", "type", "veth", "peer", "name", "line-f", "netns", far)
        for name, device, address, rate in ends:
            _set_up(name, device, address, rate)
        yield near, far
    finally:
        for name, *_ in ends:
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "del", name)


def _set_up(name: str, device: str, address: str, rate: int) -> None:
    _run("ip", "-n", name, "link", "set", "lo", "up")
    for setting in ("all.route_localnet=1", f"{device}.route_localnet=1", "all.rp_filter=0", f"{device}.rp_filter=0"):
        _run("ip", "netns", "exec", name, "sysctl", "-q", "-w", f"net.ipv4.conf.{setting}")
    _run("ip", "-n", name, "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
    _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
    _run("ip", "-n", name, "link", "set", device, "up")
    burst = max(3200, rate // 800)
    queued = max(QUEUE_BYTES, int(QUEUE_S * rate / 8))
    _run(
        "tc", "-n", name, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{rate}bit",
        "burst", str(burst), "limit", str(queued + burst),
    )  # fmt: skip


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.shaped")
    parser.add_argument("--files", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.files, arguments.size))
