"""``python -m polyb2.sandbox``: both servers in a process of their own, to try polyb2 by hand or to measure it.

Prints one line of JSON with the settings that point polyb2 at it, and serves until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from datetime import date, timedelta
from pathlib import Path

from polyb2.sandbox import scenario
from polyb2.sandbox.objects import GeneratedGzip
from polyb2.sandbox.pair import Sandbox


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m polyb2.sandbox", description=__doc__)
    parser.add_argument("--sample", action="store_true", help="publish the demo's sample")
    parser.add_argument("--small", type=int, default=0, metavar="N", help="publish N small files")
    parser.add_argument("--small-bytes", type=int, default=20_000, metavar="B", help="their size, 8 at least")
    parser.add_argument("--large", type=int, default=0, metavar="MIB", help="publish one file of that many MiB")
    parser.add_argument("--folder", type=Path, help="keep the target's bytes here instead of in memory")
    parser.add_argument("--hashes-only", action="store_true", help="keep hashes of the target's bytes only")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Sandbox(arguments.folder, hashes_only=arguments.hashes_only) as box:
        if arguments.sample:
            scenario.fill(box.source)
        for count in range(arguments.small):
            day = date(2003, 9, 10) + timedelta(days=count)
            body = count.to_bytes(8, "big") * (arguments.small_bytes // 8)
            box.source.put(scenario.key_of("us_stocks_sip/day_aggs_v1", day), body)
        if arguments.large:
            key = scenario.key_of("us_options_opra/quotes_v1", date(2024, 1, 2))
            box.source.put(key, GeneratedGzip(arguments.large << 20), part_bytes=64 << 20)
        sys.stdout.write(json.dumps(box.environment()) + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
