"""The queue by dataset and status, and the last errors with what cures them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from polyb2.core.keys import parse_key
from polyb2.core.status import FAILED, PARKED, Status
from polyb2.core.units import format_duration, format_size
from polyb2.ledger.status_report import Tally
from polyb2.web.cures import cure
from polyb2.web.markup import Markup, h
from polyb2.web.shell import NOTHING, bar, breakable, command, day_time, file_link, scrolling, section
from polyb2.web.sight import Picture

Failure = Mapping[str, Any]
LOOKS = {
    Status.COMPLETED: ("good", "✓"),
    Status.PROCESSING: ("work", "▶"),
    Status.PENDING: ("wait", "…"),
    Status.FAILED_DOWNLOAD: ("late", "↻"),
    Status.FAILED_UPLOAD: ("late", "↻"),
    Status.PERMANENT_FAILURE: ("bad", "✕"),
    Status.NOT_ENTITLED: ("rest", "⊘"),
}
ALL_FAILURES = f"polyb2 files --status {','.join(sorted(FAILED))}"
ERRORS_SHOWN = 6
WORDS_MAX = 400
"""Of an error on the overview; its file's story has all of it."""
ALWAYS = frozenset({Status.COMPLETED, Status.PROCESSING, Status.PENDING})


def queue(picture: Picture) -> Markup:
    """Files by dataset and status; a status that no file has gets no column, but for the usual ones."""
    report = picture.report
    if not report.datasets:
        words = h("p", "The ledger has no files yet. To list the source and queue what the bucket lacks:")
        return section("queue", "Queue", words, command("polyb2 discover"), class_="live")
    shown = [status for status in LOOKS if status in ALWAYS or report.totals.by_status[status]["files"]]
    names = [h("th", "Dataset", scope="col"), h("th", "In the bucket", scope="col")]
    heads = [h("th", status_sign(status), scope="col", class_="num") for status in shown]
    ends = [h("th", name, scope="col", class_="num") for name in ("To send", "Oldest waits")]
    rows = [_row(picture, dataset, tally, shown) for dataset, tally in report.datasets.items()]
    foot = h("tfoot", _row(picture, None, report.totals, shown)) if len(rows) > 1 else None
    table = h(
        "table",
        h("caption", "Files by dataset and status", class_="hidden"),
        h("thead", h("tr", names, heads, ends)),
        h("tbody", rows),
        foot,
    )
    return section("queue", "Queue", scrolling("Files by dataset and status", table), class_="live")


def status_sign(status: Status) -> Markup:
    """A status by its word, with a sign and a colour."""
    look, sign = LOOKS[status]
    return h("span", h("i", sign, aria_hidden="true"), " ", status.replace("_", " "), class_=f"sign {look}")


def _row(picture: Picture, dataset: str | None, tally: Tally, shown: list[Status]) -> Markup:
    share = tally.bytes_done / tally.bytes if tally.bytes else float(tally.by_status[Status.COMPLETED]["files"] > 0)
    name = (
        "All" if dataset is None else h("a", breakable(dataset), href=f"/?{urlencode({'dataset': dataset})}#coverage")
    )
    since_ms = (
        picture.waiting_since_ms.get(dataset) if dataset else min(picture.waiting_since_ms.values(), default=None)
    )
    waits = format_duration((picture.now_ms - since_ms) / 1000) if since_ms else NOTHING
    percent = h("span", f"{100 * share:.1f} %", class_="num")
    return h(
        "tr",
        h("th", name, scope="row"),
        h("td", bar(share), percent, class_="progress"),
        [_count(tally, status) for status in shown],
        h("td", format_size(tally.bytes_left), class_="num"),
        h("td", waits, class_="num"),
    )


def _clipped(words: str) -> str:
    return words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX]} ..."


def _count(tally: Tally, status: Status) -> Markup:
    count = tally.by_status[status]["files"]
    marked = " strong" if count and status in PARKED else ""
    return h("td", f"{count:,}", class_=f"num{marked}" if count else "zero")


def errors(picture: Picture) -> Markup:
    """The newest failures that still stand, in words, each with what to do; those of a kind in one."""
    kinds = _by_kind(picture.errors)
    if not kinds:
        return section("errors", "Last errors", h("p", "No failure stands.", class_="quiet"), class_="live")
    items = h("ul", [_error(found) for found in kinds[:ERRORS_SHOWN]], class_="errors")
    return section("errors", "Last errors", items, h("p", "All of them:", class_="quiet"), command(ALL_FAILURES),
                   class_="live")  # fmt: skip


def _by_kind(found: Sequence[Failure]) -> list[list[Failure]]:
    """Failures of the same dataset, status and reason, the newest first."""
    kinds: dict[tuple[str, str, str | None], list[Failure]] = {}
    for item in found:
        name = parse_key(item["key"])
        kinds.setdefault((name.dataset if name else item["key"], item["status"], item["reason"]), []).append(item)
    return list(kinds.values())


def _error(found: list[Failure]) -> Markup:
    newest, *others = found
    key, status, again = newest["key"], newest["status"], newest["next_attempt_at"]
    words, line = cure(key, status, newest["reason"], several=bool(others))
    count = h("span", f"and {len(others)} more of its kind") if others else None
    return h(
        "li",
        h("p", status_sign(Status(status)), " ", file_link(key), " ", count, class_="head"),
        h("p", _clipped(newest["error_message"] or newest["reason"] or "no reason is known")),
        h("p", "At ", day_time(newest["failed_at"]), ". ", again and ["Next try ", day_time(again), ". "], words,
          class_="quiet"),
        command(line) if line else None,
    )  # fmt: skip
