"""The known datasets: the documentation of each, the ledger's part of it, and, on request, the keys' right to read it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from polyb2.core.catalogue import CATALOGUE, DATASETS, Documented
from polyb2.core.errors import RemoteError, Scope
from polyb2.core.keys import matches
from polyb2.core.status import Status
from polyb2.flow.inspect.entitlement import Entitlement, Readable, date_words, probe_dataset
from polyb2.ledger.ledger import Ledger
from polyb2.ledger.status_report import Tally
from polyb2.remote.polygon import Source

PROBES_MAX = 4
"""Datasets that are probed at once: a probe is a dozen small requests, and the source's limits are unknown."""


@dataclass(slots=True)
class Entry:
    """A dataset.

    Attributes:
        dataset: its name.
        chosen: the settings name it.
        documented: its documentation; None for one that is not in the catalogue.
        held: the ledger's part of it.
        edges: dates of the ledger's first and last row.
        entitlement: the result of a probe; None without one.
        problem: the reason why a probe failed.
    """

    dataset: str
    chosen: bool
    documented: Documented | None
    held: Tally
    edges: tuple[date, date] | None
    entitlement: Entitlement | None = None
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """An object of ``datasets --json``."""
        first, last = self.edges or (None, None)
        return {
            "dataset": self.dataset,
            "chosen": self.chosen,
            "first_date": self.documented and self.documented.first.isoformat(),
            "day_bytes": self.documented and list(self.documented.day_bytes),
            "ledger": {
                "files": self.held.files,
                "bytes": self.held.bytes,
                "mirrored": self.held.by_status[Status.COMPLETED],
                "first_date": first and first.isoformat(),
                "last_date": last and last.isoformat(),
            },
            "probe": self._probe_json(),
        }

    def _probe_json(self) -> dict[str, Any] | None:
        found = self.entitlement
        if found is None and self.problem is None:
            return None
        return {
            "readable": found and found.readable,
            "oldest": found and found.oldest and date_words(found.oldest),
            "newest": found and found.newest and date_words(found.newest),
            "newest_bytes": found and found.newest and found.newest.size,
            "problem": self.problem,
        }


async def known_datasets(ledger: Ledger, patterns: Iterable[str], also: Iterable[str] = ()) -> list[Entry]:
    """The documented datasets and those that the ledger has.

    Args:
        ledger: the ledger.
        patterns: those of the settings.
        also: datasets that the source lists.
    """
    held, edges, chosen = (await ledger.status()).datasets, await ledger.edges(), list(patterns)
    others = {*held, *also} - {*DATASETS}
    return [
        Entry(
            dataset,
            any(matches(pattern, dataset) for pattern in chosen),
            CATALOGUE.get(dataset),
            held.get(dataset, Tally()),
            edges.get(dataset),
        )
        for dataset in (*DATASETS, *sorted(others))
    ]


async def probe(source: Source, entries: Iterable[Entry], listed: Iterable[str]) -> None:
    """Find out if the keys may read the datasets, and note it in the entries.

    Args:
        source: the store.
        entries: of the datasets to probe.
        listed: those that the source lists; others are noted as not listed.

    Raises:
        RemoteError: the keys are refused, or the source is away: the next dataset would fail as well.
    """
    there, turns = set(listed), asyncio.Semaphore(PROBES_MAX)

    async def one(entry: Entry) -> None:
        if entry.dataset not in there:
            entry.entitlement = Entitlement(Readable.UNLISTED)
            return
        async with turns:
            try:
                entry.entitlement = await probe_dataset(source, entry.dataset)
            except RemoteError as error:
                if error.handling.scope is not Scope.FILE:
                    raise
                entry.problem = error.found

    try:
        async with asyncio.TaskGroup() as group:
            for entry in entries:
                group.create_task(one(entry))
    except* RemoteError as errors:
        raise errors.exceptions[0] from None
