"""What there is to compare: a ledger's rows and kept counts, and what each process that tells of them says."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing, suppress
from html.parser import HTMLParser
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from polyb2.core.status import Status
from tests.faults.death import start
from tests.faults.watch import must
from tests.faults.world import World

Counts = Counter[tuple[str, str]]
"""Files by dataset and status, as somebody tells them; zeros left out."""
_COUNT = "SELECT dataset, status, count(*) FROM files GROUP BY dataset, status"
_KEPT = "SELECT dataset, status, files FROM counts WHERE files"


def _reader(ledger: Path) -> sqlite3.Connection:
    """A connection that neither writes nor checkpoints."""
    return sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=5)


def damage_of(ledger: Path) -> str:
    """What SQLite finds wrong with a ledger, in words; nothing where it is whole."""
    with closing(_reader(ledger)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        lacking = connection.execute("PRAGMA foreign_key_check").fetchall()
    return "the ledger lacks rows" if lacking else "" if found == [("ok",)] else f"the ledger is damaged: {found[:3]}"


def counted(ledger: Path) -> Counts:
    """What is in the ledger's rows."""
    return _counts(ledger, _COUNT)


def kept(ledger: Path) -> Counts:
    """What the ledger keeps count of, in the same transaction as each change."""
    return _counts(ledger, _KEPT)


def _counts(ledger: Path, sql: str) -> Counts:
    with closing(_reader(ledger)) as connection, suppress(sqlite3.OperationalError):  # no tables yet
        return Counter({(dataset, status): files for dataset, status, files in connection.execute(sql)})
    return Counter()


def of_metrics(text: str) -> Counts:
    """What ``/metrics`` tells."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return +Counter(
        {(each.labels["dataset"], each.labels["status"]): int(each.value) for each in samples
         if each.name == "polyb2_queue_files"}
    )  # fmt: skip


def of_page(text: str) -> Counts:
    """What the table of the queue tells; a status that no file has may have no column."""
    table = _Table()
    table.feed(text)
    heads, *rows = table.rows
    words = [head.split(" ", 1)[-1].replace(" ", "_") for head in heads]
    return +Counter(
        {
            (row[0].replace("\u200b", ""), word): int(cell.replace(",", ""))
            for row in rows
            for word, cell in zip(words, row, strict=True)
            if word in set(Status) and row[0] != "All"
        }
    )


async def of_status(world: World) -> Counts:
    """What a process of its own tells."""
    with tempfile.TemporaryFile() as told:
        process = await start(world, "status", "--json", out=told)
        must(await process.wait() == 0, "status failed")
        told.seek(0)
        datasets = json.load(told)["datasets"]
    return +Counter(
        {(each["dataset"], status): tally["files"] for each in datasets for status, tally in each["by_status"].items()}
    )


class _Table(HTMLParser):
    """The cells of the first table of a page, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._within = self._done = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._done:
            return
        if tag == "tr":
            self.rows.append([])
        elif tag in {"th", "td"}:
            self.rows[-1].append("")
            self._within = True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"}:
            self._within = False
        self._done = self._done or tag == "table"

    def handle_data(self, data: str) -> None:
        if self._within and not self._done:
            self.rows[-1][-1] += data


def deleted_files(ledger: Path) -> list[str]:
    """Files of a ledger that live processes have open though their names are gone: process and name."""
    held = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has just ended, or is another user's
                for descriptor in (entry / "fd").iterdir():
                    with suppress(OSError):
                        name = os.readlink(descriptor)  # noqa: PTH115 - the text is no path
                        if name.startswith(str(ledger)) and name.endswith("(deleted)"):
                            held.append(f"{entry.name} {name}")
    return held
