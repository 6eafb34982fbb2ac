"""``python -m benchmarks``: run scenarios by name, print their tables, and keep them in ``RESULTS.md``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.catalogue import all_scenarios
from benchmarks.certificates import make_certificates
from benchmarks.results import RESULTS, write_section
from benchmarks.rounds import BenchmarkError, say
from benchmarks.scenarios import Options, Scenario


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 if a scenario failed, 2 if there is none of that name."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = _parser().parse_args(words)
    if asked.list:
        print("\n".join(f"{scenario.name}\t{scenario.title}" for scenario in all_scenarios()))
        return 0
    chosen = [scenario for scenario in all_scenarios() if _is_asked_for(scenario, asked)]
    if not chosen:
        say("no scenario of that name: python -m benchmarks --list")
        return 2
    failed = 0
    with TemporaryDirectory() as name:
        folder = Path(name)
        options = Options(asked.rounds, asked.scale, make_certificates(folder), folder, asked.only or ())
        for scenario in chosen:
            failed += not _run(scenario, options, asked.write, f"python -m benchmarks {shlex.join(words)}")
    return 1 if failed else 0


def _run(scenario: Scenario, options: Options, path: Path | None, command: str) -> bool:
    say(f"{scenario.name}: {scenario.title}")
    try:
        body = scenario.run(options)
    except BenchmarkError as error:
        say(f"{scenario.name}: {error}")
        return False
    print(f"\n## {scenario.title}\n\n{body}\n", flush=True)
    if path:
        write_section(path, scenario.name, scenario.title, body, command)
    return True


def _is_asked_for(scenario: Scenario, asked: argparse.Namespace) -> bool:
    """By its name or the beginning of it; without a name, all but those that take an hour."""
    words = scenario.name.split("-")
    if asked.way and asked.way not in words:
        return False
    if not asked.scenarios:
        return not scenario.name.startswith("soak")
    return any(words[: len(name.split("-"))] == name.split("-") for name in asked.scenarios)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="large, large-tls, wan ...: see --list")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--http", dest="way", action="store_const", const="http", help="only those over HTTP")
    ways.add_argument("--tls", dest="way", action="store_const", const="tls", help="only those over TLS")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size (1); small ones are for a try")
    parser.add_argument("--only", action="append", metavar="CLIENT", help="this client only; repeatable")
    parser.add_argument(
        "--write", nargs="?", type=Path, const=RESULTS, metavar="FILE", help="put the sections into RESULTS.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
