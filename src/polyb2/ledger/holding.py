"""What a watch follows, and what it found and did not queue, as it is much and nobody was there to ask.

A held file changes no row: what the mirror has is still proven. It is forgotten once it is queued, or when the source lists
something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from polyb2.core.compare import Plan
from polyb2.core.units import format_size
from polyb2.ledger.database import Row, Transaction
from polyb2.ledger.listings import Discovered

DATES_NAMED_MAX = 8
DATASETS_NAMED_MAX = 8


@dataclass(frozen=True, slots=True)
class Held:
    """What is held in all.

    Attributes:
        files: how many.
        bytes: of all.
        replaced: those that would replace a mirrored revision.
        dates: the first dates of their names, at most :data:`DATES_NAMED_MAX` and one more.
        last: the last date.
        datasets: whose they are, at most :data:`DATASETS_NAMED_MAX` and one more.
    """

    files: int = 0
    bytes: int = 0
    replaced: int = 0
    dates: tuple[str, ...] = ()
    last: str = ""
    datasets: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What is held and why, and after a semicolon the command that agrees to it."""
        replaced = f", {self.replaced} of them replaced at the source," if self.replaced else ""
        return (
            f"{self.files} files with {format_size(self.bytes)}{replaced} are not queued: they are more than "
            f"POLYB2_MAX_PLAN_BYTES allows unasked; to agree, run {self.command}"
        )

    @property
    def command(self) -> str:
        """The discovery that queues what is held."""
        words = ["polyb2 discover"]
        if len(self.dates) <= DATES_NAMED_MAX:
            words.append(f"--dates {','.join(self.dates)}")
        else:
            words.append(f"--historical --start-date {self.dates[0]} --end-date {self.last}")
        if len(self.datasets) <= DATASETS_NAMED_MAX:
            words.append(f"--dataset {','.join(self.datasets)}")
        return " ".join([*words, "--yes"])

    def as_json(self) -> dict[str, Any]:
        """The object ``held`` of ``status --json``."""
        return {"files": self.files, "bytes": self.bytes, "agree_with": self.command if self.files else None}


def hold(tx: Transaction, found: Sequence[Discovered], now_ms: int) -> None:
    """Keep files that were found and are not queued."""
    tx.run("held_set", files=json.dumps([_values(item) for item in found]), now_ms=now_ms)


def release(tx: Transaction, keys: Iterable[str]) -> None:
    """Forget held files: they are queued now, or the source lists something else."""
    tx.run("held_delete", keys=json.dumps(list(keys)))


def held_of(tx: Transaction, keys: Sequence[str]) -> dict[str, tuple[str, int]]:
    """ETag and size of what is held of these keys."""
    return {row["key"]: (row["source_etag"], row["size"]) for row in tx.rows("held_of", keys=json.dumps(keys))}


def held_between(tx: Transaction, after: str, last: str, limit: int) -> list[str]:
    """Keys of held files with ``after < key <= last``, in their order, at most ``limit``."""
    return [row["key"] for row in tx.rows("held_between", after=after, last=last, limit=limit)]


def summary(tx: Transaction) -> Held:
    """What is held in all."""
    row = tx.row("held_summary")
    if row is None or not row["files"]:
        return Held()
    return Held(
        files=row["files"],
        bytes=int(row["bytes"]),
        replaced=row["replaced"],
        dates=_names(tx.rows("held_dates", limit=DATES_NAMED_MAX + 1)),
        last=row["last"],
        datasets=_names(tx.rows("held_datasets", limit=DATASETS_NAMED_MAX + 1)),
    )


def followed(tx: Transaction) -> Mapping[str, date]:
    """The first date that a watch ever looked at, by dataset."""
    return {row["dataset"]: date.fromisoformat(row["since"]) for row in tx.rows("followed")}


def follow(tx: Transaction, datasets: Iterable[str], since: date) -> None:
    """Note that a watch looked at these datasets from ``since`` on."""
    for dataset in datasets:
        tx.run("followed_set", dataset=dataset, since=since.isoformat())


def _names(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(str(row[0]) for row in rows)  # type: ignore[index]


def _values(item: Discovered) -> tuple[str, str, str, int, str, int, int]:
    name, listed = item.name, item.listed
    replaces = int(item.plan is Plan.REVISED or item.plan is Plan.REVISED_HELD)
    return (
        listed.key, name.dataset, name.date.isoformat(), listed.size, listed.etag, listed.last_modified_ms, replaces,
    )  # fmt: skip
