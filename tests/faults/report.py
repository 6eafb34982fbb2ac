"""The report: what was played, what was asserted, and what came of it; each case only where it failed."""

from __future__ import annotations

import json
import os
import platform
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime

from polyb2 import __version__
from tests.faults.lines import Line

INTRODUCTION = """\
# Fault report

Written by `make faults`. What is played and what must hold is in `tests/faults/`: `catalogue.py`, `outside.py`,
`network.py`, `books.py` and `clocks.py` have the cases of the matrix, `world.py` the guarantees, which are checked after
the run that met the fault and again after it was cured. `death.py`, `drain.py`, `power.py`, `runners.py`, `hammer.py`,
`large.py` and `isolation.py` kill, stop, freeze, copy and measure real processes; `onlookers.py`, `pairs.py` and
`places/` put them into other surroundings; `servers.py` and `fleet.py` break the PostgreSQL server under them. This is the
summary; the cases themselves, a line of JSON each with seed,
result and seconds, are what `make faults` leaves in `fault-rows.jsonl`.
"""
ASSERTED = """
## What is asserted

For each case of the matrix. *The fault struck.* *Meanwhile*: every version in the bucket is byte for byte a revision of
the source; no row is left in processing, retries are bounded, failed rows say why, completed rows name the bucket's
object; no slot, socket or task is left. A fault that comes *once* heals within the run, unless it is a refusal; trouble of
a whole side, of the way to it or of the ledger charges no file a retry. *After the cure*: every file completed in its
newest revision, no upload left over, no part with a receipt sent twice while its upload stood.

- *Sudden death*: the same, and only what had no receipt is sent again. In the soak and in the large transfer the bytes that
  the target took are counted: at most streams x part size more than there are receipts for, each kill.
- *Drain*: exit within `POLYB2_DRAIN_SECONDS` + 5 s with 143, rows free and charged nothing, and the next run completes them.
- *Frozen*: a process that was stopped past its lease and woken starts no new request and settles nothing.
- *Power loss*: each copy of database and log, its tail torn, passes `integrity_check`, its kept counts are right, and the run
  that goes on from it ends right; from an older copy as well.
- *Surroundings*: each command ends with the code that it has anywhere, or says in words why it cannot: no traceback, nothing
  "unexpected", no time-out, no warning that is not about it, and JSON stays JSON.
- *Isolation*: beside what is wrong 240 small files take less than 1.5 times as long as alone (with half a second for the
  start of a run on both sides), and no request is sent more often than the rules say. While a side is away a run that stays
  up takes less than a twentieth of a core, once what was under way has used up its tries, and says so once.
- *Trouble of the server*: `/readyz` of both runs says why, no file is begun meanwhile, and both go on by themselves; nothing
  is charged, each revision is settled once, and unless leases or commits were lost no byte is sent twice. At SIGTERM
  meanwhile both end within their grace time, and the next run goes on.
- *Watched*: after each kill the ledger passes `integrity_check`, and `status`, `/metrics`, the page, the kept counts and a
  recount say the same; no process holds a file of the ledger that is gone; every other command ends with 0 or 3.
- *Strange places*: the mirror ends whole there, or the run says what is in its way: no traceback, no "unexpected", no damage.
- *Surroundings*: the mirror ends as anywhere else, after a kill and a stop; through the proxy goes everything.

## What cannot be known without a live account

- The words and codes of some refusals: `core/classification.py` takes the documented and the reported ones, and judges
  unknown ones by their status.
- Whether the source honours If-Match: the ETag of every answer is compared as well, and a 501 turns the header off.
- Whether B2's part ETags are MD5s: part 1 of every upload is hashed; where they are none, the object is read back.
- Whether the source's composite ETags tell its part size: where they do not, each part's own MD5 is the proof.
- For how long B2 assembles after a Complete whose answer was lost: HEAD is polled for five minutes before starting over.
"""
TITLES = {
    "matrix": "The matrix",
    "death": "Sudden death",
    "soak": "Random kills under load",
    "watched": "Random kills, looked at, beside other commands",
    "surroundings": "Surroundings, each alone and in pairs",
    "places": "Strange places",
    "large": "A large transfer, killed",
    "drain": "Drain",
    "frozen": "Frozen past the lease",
    "power": "Power loss under the ledger",
    "locks": "Processes on one ledger",
    "server": "Trouble of the PostgreSQL server",
    "isolation": "Isolation",
    "commands": "Every command in other people's surroundings",
    "line": "Lines of the kernel's own, shaped",
    "model": "The ledger against its model",
    "limiter": "The laws of the rate limiter, in virtual time",
}
NOTED = ("soak", "watched", "large", "limiter")
"""Parts whose figures are told."""
WHOLE = {"soak", "watched", "large", "isolation", "limiter", "line", "locks", "model", "power", "places"}
"""Parts whose cases each have a row of their own."""
CELL_MAX = 300
AGAIN = "played again"
"""Begins the note of a case that did not hold the first time."""


def report(lines: list[Line], seed: int) -> str:
    """The report as Markdown."""
    minutes = sum(line.seconds for line in lines) / 60
    parts: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        parts[line.part].append(line)
    violations = sum(line.result != "ok" for line in lines)
    counted = ", ".join(f"{len(parts[part])} {part}" for part in (*TITLES, "run") if parts[part])
    cores = os.cpu_count() or 1
    where = f"Python {platform.python_version()}, {platform.system()}, {cores} cores"
    noted = [f"- {line.step}, {line.fault}: {line.note or line.result}" for part in NOTED for line in parts[part]]
    steps = len({(line.step, line.fault.rpartition(", ")[0]) for line in parts["matrix"]})
    return "\n".join(
        [
            INTRODUCTION,
            f"- {datetime.now(UTC):%Y-%m-%d}, polyb2 {__version__}, {where}, seed {seed}; {minutes:.0f} minutes of play",
            f"- **{len(lines)} cases, {violations} violations**: {counted}",
            f"- {steps} distinct pairs of step and fault in the matrix",
            *_again(lines),
            *noted,
            ASSERTED,
            *_failed(lines),
            *(line for part, title in TITLES.items() if parts[part] for line in _counted(title, parts[part])),
        ]
    )


def _again(lines: list[Line]) -> list[str]:
    """The cases that were played a second time, which is said: the first time they did not hold."""
    again = [line for line in lines if line.note.startswith(AGAIN)]
    return (
        [f"- {len(again)} of them held only when they were played again, after a mend or alone on the machine"]
        if again
        else []
    )


def rows(lines: Iterable[Line]) -> str:
    """Every case, a line of JSON each."""
    return "".join(json.dumps(asdict(line)) + "\n" for line in lines)


def _failed(lines: list[Line]) -> list[str]:
    """Each case that failed, in full."""
    failed = [line for line in lines if line.result != "ok"]
    if not failed:
        return []
    heads = ["## Violations\n", "| part | step | fault | seed | result |", "|---|---|---|---|---|"]
    cells = [(line.part, line.step, line.fault, str(line.seed), line.result) for line in failed]
    return [*heads, *(f"| {' | '.join(_cell(text) for text in row)} |" for row in cells), ""]


def _counted(title: str, lines: list[Line]) -> list[str]:
    """How many cases of each step were played, how many held, and how long they took."""
    steps: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        steps[_step(line)].append(line)
    table = [f"## {title}\n", "| step | cases | ok | seconds |", "|---|---|---|---|"]
    for step, played in steps.items():
        held = sum(line.result == "ok" for line in played)
        table.append(f"| {_cell(step)} | {len(played)} | {held} | {sum(line.seconds for line in played):.0f} |")
    return [*table, ""]


def _step(line: Line) -> str:
    """What a case is counted under: its step, without the number of the passing or the name of the verb."""
    if line.part in WHOLE:
        return f"{line.step}: {line.fault}"
    return line.step.partition(".")[0] if line.part in {"death", "frozen"} else line.step.partition(":")[0]


def _cell(text: str) -> str:
    """Text that stays within its cell."""
    return " ".join(text.split()).replace("|", "\\|")[:CELL_MAX]
