"""``python -m tests.faults``: every fault at every step, every death, every frozen process, a soak; and the report of it all.

The work is shared out to twice as many processes as there are cores, as most of it waits; each soak has one of its own, and
what is measured comes last and alone. The parent draws up what is to be played, sees that every act of it was played once,
and writes the report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from tests.faults.death import kill_points
from tests.faults.lines import Act, Line, alone, side_by_side, soak, unplayed, watched_soak
from tests.faults.report import AGAIN, report, rows

SOAK_KILLS = 200
ALONE, SOAK, WATCHED = "alone", "soak", "watched"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--report", type=Path, help="write the report here")
    parser.add_argument("--rows", type=Path, help="write every case here, a line of JSON each")
    parser.add_argument("--seed", type=int, default=1, help="of the engine's jitter, the soak and other random moments")
    parser.add_argument("--kills", type=int, default=SOAK_KILLS, help="random kills of the soak")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument(
        "--again", action="store_true", help="play only what did not hold, one by one, and bring --rows up to date"
    )
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    parser.add_argument("--kill-points", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


async def _share(arguments: argparse.Namespace) -> None:
    """One process' share of the work, told line by line."""
    acts: list[Act]
    if arguments.shard == ALONE:
        acts = alone(arguments.seed)
    elif arguments.shard == SOAK:
        acts = soak(arguments.seed, arguments.kills)
    elif arguments.shard == WATCHED:
        acts = watched_soak(arguments.seed)
    else:
        index, count = map(int, arguments.shard.split("/"))
        acts = side_by_side(arguments.seed, arguments.kill_points)[index::count]
    for act in acts:
        sys.stdout.write(json.dumps(asdict(await act.line())) + "\n")
        sys.stdout.flush()


def _play(arguments: argparse.Namespace, shards: list[str]) -> list[Line]:
    """Play shards at the same time, each in a process of its own.

    They are handed the points of death: which requests a run sends, and so the points it passes, is decided by timing.
    """
    words = [sys.executable, "-m", "tests.faults", "--seed", str(arguments.seed), "--kills", str(arguments.kills)]
    words += ["--kill-points", json.dumps(arguments.kill_points)]
    shares = [subprocess.Popen([*words, "--shard", shard], stdout=subprocess.PIPE, text=True) for shard in shards]
    lines: list[Line] = []
    # All at once: a share whose pipe is full would wait for its turn to be read.
    with ThreadPoolExecutor(len(shares)) as readers:
        read = list(readers.map(_read, shares))
    for share, of_share in zip(shares, read, strict=True):
        lines += of_share
        if share.returncode:
            lines.append(Line("run", "a share of the run", "", 0, f"ended with {share.returncode}", 0.0))
    return lines


def _read(share: subprocess.Popen[str]) -> list[Line]:
    """Read the lines of a shard to its end; a violation is shown at once, as a run takes the better part of an hour."""
    assert share.stdout is not None
    lines = []
    for text in share.stdout:
        lines.append(Line(**json.loads(text)))
        if lines[-1].result != "ok":
            _show(lines[-1])
    share.wait()
    return lines


def _show(line: Line) -> None:
    sys.stderr.write(f"{line.step}: {line.fault} (seed {line.seed}): {line.result}\n")


def main() -> int:
    """Play everything; the exit code is 1 if a guarantee did not hold."""
    arguments = _arguments()
    logging.disable(logging.CRITICAL)
    if arguments.shard:
        asyncio.run(_share(arguments))
        return 0
    lines = _again(arguments) if arguments.again else _all(arguments)
    violations = [line for line in lines if line.result != "ok"]
    sys.stdout.write(f"{len(lines)} cases, {len(violations)} violations\n")
    if arguments.rows:
        arguments.rows.write_text(rows(lines), encoding="utf-8")
    if arguments.report:
        arguments.report.write_text(report(lines, arguments.seed), encoding="utf-8")
    return int(bool(violations))


def _all(arguments: argparse.Namespace) -> list[Line]:
    """Play everything."""
    arguments.kill_points = asyncio.run(kill_points())
    together = [SOAK, WATCHED, *(f"{index}/{arguments.workers}" for index in range(arguments.workers))]
    lines = _play(arguments, together) + _play(arguments, [ALONE])
    missing = unplayed(_planned(arguments), lines)
    for line in missing:
        _show(line)
    return lines + missing


def _planned(arguments: argparse.Namespace) -> list[Act]:
    seed = arguments.seed
    planned = side_by_side(seed, arguments.kill_points)
    return [*planned, *soak(seed, arguments.kills), *watched_soak(seed), *alone(seed)]


def _again(arguments: argparse.Namespace) -> list[Line]:
    """Play again, one by one, the cases that failed in the run that left ``--rows``, and play those that it did not have."""
    lines = [Line(**json.loads(text)) for text in arguments.rows.read_text(encoding="utf-8").splitlines()]
    deaths = (line for line in lines if line.part == "death")
    arguments.kill_points = [(*_point(line.step), int(line.fault.rpartition(" ")[2])) for line in deaths]
    acts = {act.name: act for act in _planned(arguments)}
    for number, line in enumerate(lines):
        act = acts.get((line.part, line.step, line.fault, line.seed))
        if line.result == "ok" or act is None:
            continue
        played = asyncio.run(act.line())
        lines[number] = replace(played, note=f"{AGAIN} {played.note}")
        if played.result != "ok":
            _show(played)
    names = {(line.part, line.step, line.fault, line.seed) for line in lines}
    return lines + [asyncio.run(act.line()) for name, act in acts.items() if name not in names]


def _point(step: str) -> tuple[str, str]:
    """Scene and point of a death's step, ``point (scene)``."""
    point, _, scene = step.partition(" (")
    return scene.removesuffix(")"), point


if __name__ == "__main__":
    sys.exit(main())
