"""A file's story: what it is, what became of it, every revision, every attempt, and what to do now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from polyb2.core.status import Status
from polyb2.core.units import format_duration, format_size
from polyb2.web.cures import cure, discover
from polyb2.web.markup import Child, Markup, h
from polyb2.web.queue import status_sign
from polyb2.web.shell import NOTHING, bar, command, day_time, scrolling

PROOFS = {
    "etag": "the source's own checksum",
    "parts": "the MD5 of every part",
    "readback": "read back from the bucket",
}


def story_page(told: Mapping[str, Any]) -> Markup:
    """The story, from the object that ``files KEY --json`` prints."""
    return h("article", _heading(told), _advice(told), _facts(told), _revisions(told), _attempts(told), class_="story")


def unknown_page(key: str) -> Markup:
    """A key of which the ledger has nothing."""
    line = discover(key)
    words = (
        [h("p", "The ledger does not know it. If it is to be mirrored:"), command(line)]
        if line
        else [h("p", "This is not the key of a flat file. One looks like this:"),
              command("us_stocks_sip/day_aggs_v1/2024/01/2024-01-02.csv.gz")]
    )  # fmt: skip
    return h("section", h("h1", key or "Which file?", class_="key"), words, lookup(key), class_="card")


def lookup(key: str = "") -> Markup:
    """The form that asks for a key."""
    asked = h("input", name="key", value=key, size=48, maxlength=1024, autocomplete="off", spellcheck="false")
    return h(
        "form",
        h("label", "Key of a file ", asked),
        h("button", "Tell its story"),
        action="/file",
        method="get",
        class_="choice",
    )


def _heading(told: Mapping[str, Any]) -> Markup:
    return h(
        "section",
        h("p", told["dataset"], class_="quiet"),
        h("h1", told["date"]),
        h("p", status_sign(Status(told["status"])), " ", told["reason"] and f"({told['reason'].replace('_', ' ')})"),
        h("p", told["key"], class_="key quiet"),
        class_="card",
    )


def _advice(told: Mapping[str, Any]) -> Markup | None:
    if told["status"] in {Status.COMPLETED, Status.PENDING, Status.PROCESSING} and not told["error_message"]:
        return None
    words, line = cure(told["key"], told["status"], told["reason"])
    waits = [" Next try ", day_time(told["next_attempt_at"]), "."] if told["next_attempt_at"] else None
    message = h("p", told["error_message"]) if told["error_message"] else None
    return h("section", h("h2", "What happened"), message, h("p", words, waits), line and command(line), class_="card")


def _facts(told: Mapping[str, Any]) -> Markup:
    share = told["bytes_done"] / told["size"] if told["size"] else 0.0
    done = bar(share) if told["status"] != Status.COMPLETED and told["bytes_done"] else None
    mirrored = told["mirrored_revision"]
    facts: list[tuple[str, Child]] = [
        ("Size", f"{format_size(told['size'])} ({told['size']:,} bytes)"),
        ("In the bucket", _in_the_bucket(told, mirrored)),
        (
            "Done",
            [done, f" {100 * share:.0f} %, {told['parts_done']} of {told['parts_total']} parts"] if done else None,
        ),
        ("Proof", PROOFS.get(told["verification"] or "")),
        ("Key in the bucket", h("span", told["dest_key"], class_="key")),
        ("Version", h("span", told["dest_version_id"], class_="key") if told["dest_version_id"] else None),
        ("Found", day_time(told["discovered_at"])),
        ("Completed", day_time(told["completed_at"]) if told["completed_at"] else None),
        ("Published by the vendor", day_time(told["source_last_modified"])),
    ]
    rows = [h("div", h("dt", name), h("dd", value)) for name, value in facts if value]
    return h("section", h("h2", "The file"), h("dl", rows, class_="facts"), class_="card")


def _in_the_bucket(told: Mapping[str, Any], mirrored: int | None) -> str:
    if mirrored is None:
        return "not yet"
    if mirrored == told["revision"]:
        return f"revision {mirrored}, the newest"
    return f"revision {mirrored}; revision {told['revision']} is to be sent"


def _revisions(told: Mapping[str, Any]) -> Markup:
    heads = ("Revision", "Size", "Source ETag", "First seen", "Mirrored", "Version in the bucket")
    rows: list[tuple[Child, ...]] = [
        (item["revision"], format_size(item["size"]), _code(item["source_etag"]), day_time(item["first_seen_at"]),
         day_time(item["mirrored_at"]), _code(item["dest_version_id"]))
        for item in reversed(told["revisions"])
    ]  # fmt: skip
    return _table("Revisions", "Contents of this file, the newest first", heads, rows)


def _attempts(told: Mapping[str, Any]) -> Markup:
    heads = ("Attempt", "Revision", "Began", "Took", "Outcome", "Cause")
    rows: list[tuple[Child, ...]] = [
        (item["attempt"], item["revision"], day_time(item["started_at"]),
         format_duration(item["seconds"]) if item["seconds"] is not None else NOTHING,
         (item["outcome"] or "under way").replace("_", " "), item["error_message"] or item["reason"] or NOTHING)
        for item in reversed(told["attempts"])
    ]  # fmt: skip
    if not rows:
        return h("section", h("h2", "Attempts"), h("p", "None yet.", class_="quiet"), class_="card")
    return _table("Attempts", "Attempts to send it, the newest first", heads, rows)


def _table(title: str, caption: str, heads: tuple[str, ...], rows: Iterable[tuple[Child, ...]]) -> Markup:
    head = h("tr", [h("th", name, scope="col") for name in heads])
    body = [h("tr", h("th", first, scope="row"), [h("td", cell) for cell in rest]) for first, *rest in rows]
    table = h("table", h("caption", caption, class_="hidden"), h("thead", head), h("tbody", body), class_="plain")
    return h("section", h("h2", title), scrolling(caption, table), class_="card")


def _code(text: str | None) -> Child:
    return h("span", text, class_="key", title=text) if text else NOTHING
