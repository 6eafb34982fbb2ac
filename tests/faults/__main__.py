"""``python -m tests.faults``: every fault at every step, every death, every frozen process, a soak; and the report of it all.

The work is shared out to as many processes as there are cores; the parent collects their lines and writes the report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polyb2 import __version__
from tests.faults.catalogue import catalogue
from tests.faults.death import Soak, die_at, kill_points
from tests.faults.matrix import play
from tests.faults.runners import STOPS, frozen_at
from tests.ledger.test_model import check_model

SOAK_KILLS = 200
MODEL_EXAMPLES, MODEL_STEPS = 200, 50
INTRODUCTION = """\
# Fault report

Written by `make faults`. What is played and what must hold is in `tests/faults/`: `catalogue.py` has the cases,
`world.py` the guarantees, which are checked after the run that met the fault and again after it was cured; `death.py`
and `runners.py` kill and freeze real processes.
"""
ASSERTED = """
Asserted for each case of the matrix. *Meanwhile*: every version in the bucket is byte for byte a revision of the
source; no row is left in processing, retries are bounded, failed rows say why, completed rows name the bucket's
object; no slot, socket or task is left. A fault that comes *once* heals within the run, unless it is a refusal.
*After the cure*: every file completed in its newest revision, no upload left over, no part with a receipt sent twice
while its upload stood. For each death: the same, and at most streams x part size sent again.

What cannot be known without a live account: the words and codes of some refusals (`core/answers.py` takes the
documented and the reported ones, and judges unknown ones by their status); whether the source honours If-Match (the
ETag of every answer is compared as well); whether B2's part ETags are MD5s (the object is read back where they are
not).
"""


@dataclass(frozen=True)
class Line:
    """One row of the report."""

    part: str
    step: str
    fault: str
    seed: int
    result: str
    seconds: float
    note: str = ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--report", type=Path, help="write the report here")
    parser.add_argument("--seed", type=int, default=1, help="of the engine's jitter and of the soak")
    parser.add_argument("--kills", type=int, default=SOAK_KILLS, help="random kills of the soak")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    return parser.parse_args()


# -- one process' share -------------------------------------------------------------------------------------------------


async def _matrix(seed: int) -> AsyncIterator[Callable[[], Awaitable[Line]]]:
    for number, case in enumerate(catalogue()):

        async def one(case: Any = case, number: int = number) -> Line:
            random.seed(seed + number)
            played = await play(case)
            fault = f"{case.fault}, {case.lasts}"
            return Line(
                "matrix", case.step, fault, seed + number, played.violation or "ok", played.seconds, played.ended
            )

        yield one


async def _deaths() -> AsyncIterator[Callable[[], Awaitable[Line]]]:
    for scene, point, nth in await kill_points():

        async def one(scene: str = scene, point: str = point, nth: int = nth) -> Line:
            return await _timed(
                "death", f"{point} ({scene})", f"kill -9 at passing {nth}", lambda: die_at(scene, point, nth)
            )

        yield one


async def _frozen() -> AsyncIterator[Callable[[], Awaitable[Line]]]:
    for point in STOPS:

        async def one(point: str = point) -> Line:
            return await _timed(
                "frozen", point, "SIGSTOP past the lease, SIGCONT after the successor", lambda: frozen_at(point)
            )

        yield one


async def _timed(part: str, step: str, fault: str, act: Callable[[], Awaitable[bool]]) -> Line:
    began_s = time.monotonic()
    try:
        struck = await act()
        result, note = "ok", "" if struck else "did not come there"
    except Exception as error:  # noqa: BLE001 - whatever comes out is the row's result
        result, note = f"{type(error).__name__}: {error}", ""
    return Line(part, step, fault, 0, result, time.monotonic() - began_s, note)


async def _soak(seed: int, kills: int) -> Line:
    soak, began_s, result = Soak(seed), time.monotonic(), "ok"
    try:
        await soak.run(kills)
    except Exception as error:  # noqa: BLE001 - as above
        result = f"{type(error).__name__}: {error}"
    note = f"{soak.kills} kills in {soak.starts} runs; at most {soak.again_bytes_max / 2**20:.1f} MiB sent again for a kill"
    return Line("soak", "any moment", "kill -9 under load", seed, result, time.monotonic() - began_s, note)


def _model() -> Line:
    began_s, result = time.monotonic(), "ok"
    try:
        check_model(examples=MODEL_EXAMPLES, steps=MODEL_STEPS)
    except AssertionError as error:
        result = f"{type(error).__name__}: {error}"
    note = f"{MODEL_EXAMPLES} histories of up to {MODEL_STEPS} steps against a model of the statuses"
    return Line("model", "ledger", "verbs in any order", 0, result, time.monotonic() - began_s, note)


async def _share(arguments: argparse.Namespace) -> None:
    index, count = map(int, arguments.shard.split("/"))
    number = 0
    if index == count - 1:
        _tell(await _soak(arguments.seed, arguments.kills))
    if index == 0:
        _tell(await asyncio.to_thread(_model))
    for source in (_matrix(arguments.seed), _deaths(), _frozen()):
        async for act in source:
            number += 1
            if number % count == index:
                _tell(await act())


def _tell(line: Line) -> None:
    sys.stdout.write(json.dumps(asdict(line)) + "\n")
    sys.stdout.flush()


# -- all of it ----------------------------------------------------------------------------------------------------------


def _play_all(arguments: argparse.Namespace) -> list[Line]:
    words = [sys.executable, "-m", "tests.faults", "--seed", str(arguments.seed), "--kills", str(arguments.kills)]
    shares = [
        subprocess.Popen([*words, "--shard", f"{index}/{arguments.workers}"], stdout=subprocess.PIPE, text=True)
        for index in range(arguments.workers)
    ]
    lines: list[Line] = []
    for share in shares:
        out, _ = share.communicate()
        lines += [Line(**json.loads(text)) for text in out.splitlines()]
        if share.returncode:
            lines.append(Line("run", "a share of the run", "", 0, f"ended with {share.returncode}", 0.0))
    return lines


def _report(lines: list[Line], seconds: float) -> str:
    parts: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        parts[line.part].append(line)
    violations = sum(line.result != "ok" for line in lines)
    counted = ", ".join(f"{len(found)} {part}" for part, found in sorted(parts.items()))
    where = f"Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"
    text = [
        INTRODUCTION,
        f"- {datetime.now(UTC):%Y-%m-%d}, polyb2 {__version__}, {where}; {seconds / 60:.0f} minutes",
        f"- **{len(lines)} cases, {violations} violations**: {counted}",
        *(
            f"- {line.fault} (seed {line.seed}): {line.note}; {line.result}"
            for line in (*parts["soak"], *parts["model"])
        ),
        ASSERTED,
    ]
    for title, part in (("The matrix", "matrix"), ("Sudden death", "death"), ("Frozen past the lease", "frozen")):
        text += [f"## {title}\n", "| step | fault | seed | result | seconds |", "|---|---|---|---|---|"]
        text += [_row(line) for line in sorted(parts[part], key=lambda line: (line.seed, line.step, line.fault))]
        text.append("")
    return "\n".join(text)


def _row(line: Line) -> str:
    # What a run said when it ended is for the matrix' reader of the code, not for this table.
    note = f" ({line.note})" if line.note and line.part != "matrix" else ""
    return f"| {line.step} | {line.fault} | {line.seed} | {line.result}{note} | {line.seconds:.1f} |"


def main() -> int:
    """Play everything; the exit code is 1 if a guarantee did not hold."""
    arguments = _arguments()
    if arguments.shard:
        logging.disable(logging.CRITICAL)
        asyncio.run(_share(arguments))
        return 0
    began_s = time.monotonic()
    lines = _play_all(arguments)
    violations = [line for line in lines if line.result != "ok"]
    for line in violations:
        sys.stderr.write(f"{line.step}: {line.fault} (seed {line.seed}): {line.result}\n")
    sys.stdout.write(f"{len(lines)} cases, {len(violations)} violations\n")
    if arguments.report:
        arguments.report.write_text(_report(lines, time.monotonic() - began_s), encoding="utf-8")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
