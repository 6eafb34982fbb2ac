"""From patterns to datasets: the source's own listing, matched against the names that the user wrote."""

from __future__ import annotations

import logging

from polyb2.core.catalogue import suggestion
from polyb2.core.errors import Kind, RemoteError, Side, UsageError
from polyb2.core.keys import is_pattern, is_segment, matches, short
from polyb2.remote.polygon import Source

log = logging.getLogger(__name__)
NAMED_MAX = 12


async def resolve_datasets(source: Source, patterns: tuple[str, ...], refused: list[str] | None = None) -> list[str]:
    """The datasets that the patterns name in the source's own listing.

    Args:
        source: the source.
        patterns: names or globs; none means all.
        refused: receives the listed names that no dataset can have.

    Raises:
        UsageError: a pattern matches no prefix and type there.
        RemoteError: it matches none in the first part of an endless listing.
    """
    names: list[str] = [] if refused is None else refused
    above = await source.folders("")
    is_whole, prefixes = above.is_whole, _sound(above, "", names)
    types: dict[str, list[str]] = {}
    found: list[str] = []
    for pattern in patterns or ("*/*",):
        head = pattern.split("/")[0]
        for prefix in prefixes:
            if matches(head, prefix) and prefix not in types:
                below = await source.folders(f"{prefix}/")
                is_whole, types[prefix] = is_whole and below.is_whole, _sound(below, f"{prefix}/", names)
        listed = [f"{prefix}/{kind}" for prefix in types for kind in types[prefix]]
        named = [dataset for dataset in listed if dataset == pattern or matches(pattern, dataset)]
        if not named and not is_whole:
            words = f"the listing of datasets does not end, and {pattern!r} is not among those at its beginning"
            raise RemoteError(Side.SOURCE, Kind.BAD_ANSWER, words)
        if not named:
            known = listed or [f"{prefix}/..." for prefix in prefixes]
            raise UsageError(_unknown(pattern, known))
        found += named
    return list(dict.fromkeys(found))


def _sound(folders: list[str], above: str, refused: list[str]) -> list[str]:
    """The folders that can be part of a dataset's name; the others are refused by name, without stopping the listing."""
    unsound = [f"{above}{name}/" for name in folders if not is_segment(name)]
    refused += unsound
    for name in unsound:
        log.warning("%s is not a name that a dataset can have: left alone", short(name))
    return [name for name in folders if is_segment(name)]


def _unknown(pattern: str, known: list[str]) -> str:
    hint = "" if is_pattern(pattern) else suggestion(pattern, [name for name in known if not name.endswith("...")])
    has = ", ".join(sorted(known)[:NAMED_MAX])
    return f"the source lists no {pattern!r}{hint}, which --dataset or POLYB2_DATASETS names; it has: {has}"
