"""``datasets``: the catalogue, what the ledger has of it, and what the keys may read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from polyb2.cli import options as o
from polyb2.cli.logs import set_up_logging
from polyb2.cli.loop import in_loop
from polyb2.cli.manner import configured
from polyb2.core.keys import matches
from polyb2.core.selection import split_datasets

if TYPE_CHECKING:
    from polyb2.config import Settings
    from polyb2.flow.inspect.datasets import Entry
    from polyb2.ledger.ledger import Ledger


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog="Example: polyb2 datasets --probe --dataset 'us_stocks_sip/*'")(datasets)


def datasets(
    dataset: o.Datasets = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Read a byte of the newest and the oldest file of each.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """The catalogue: first date, typical size, what the ledger has; with --probe which of it the keys may read."""
    settings = configured()
    patterns = split_datasets(dataset or [])
    set_up_logging(settings.log_level)
    entries = in_loop(_entries(settings, patterns, probing=probe))
    if as_json:
        typer.echo(json.dumps({"datasets": [entry.as_json() for entry in entries]}, indent=2))
    else:
        from polyb2.cli.show.datasets import print_entries

        print_entries(entries, probed=probe)


async def _entries(settings: Settings, patterns: tuple[str, ...], *, probing: bool) -> list[Entry]:
    from polyb2.flow.inspect.completeness import resolve_known
    from polyb2.flow.inspect.datasets import known_datasets
    from polyb2.ledger.open import open_ledger

    ledger = await open_ledger(settings.database_url, read_only=True)
    try:
        if probing:
            return await _probed(settings, ledger, patterns)
        entries = await known_datasets(ledger, settings.datasets)
        wanted = set(await resolve_known(ledger, patterns)) if patterns else None
        return [entry for entry in entries if wanted is None or entry.dataset in wanted]
    finally:
        await ledger.close()


async def _probed(settings: Settings, ledger: Ledger, patterns: tuple[str, ...]) -> list[Entry]:
    from polyb2.core.retry import LOOKING
    from polyb2.flow.discover.resolve import resolve_datasets
    from polyb2.flow.inspect.datasets import known_datasets, probe
    from polyb2.opening import open_source

    settings.require_remote(target=False)
    async with open_source(settings, LOOKING) as source:
        listed = await resolve_datasets(source, patterns)
        entries = await known_datasets(ledger, settings.datasets, listed)
        wanted = [entry for entry in entries if not patterns or any(matches(one, entry.dataset) for one in patterns)]
        await probe(source, wanted, listed)
        return wanted
