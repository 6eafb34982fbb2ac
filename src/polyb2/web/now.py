"""The part of the page that is about now: what the process does, how fast, with which files, and what is in its way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from polyb2.core.status import WAITING, Status
from polyb2.core.units import format_duration, format_size
from polyb2.web.chart import POINTS_MAX, rate_chart
from polyb2.web.markup import Markup, h
from polyb2.web.shell import NOTHING, bar, clock_time, file_link, section
from polyb2.web.sight import Picture, Sight

IN_FLIGHT_SHOWN = 12
_FAR_S = 5 * 86_400


@dataclass(frozen=True, slots=True)
class State:
    """What the process does, in a word, with a sign and a class for its look."""

    look: str
    sign: str
    words: str


def state_of(sight: Sight, picture: Picture) -> State:
    """What the process does now."""
    mirror = sight.subject.mirror
    if mirror.draining.is_set():
        return State("rest", "■", "Stopping")
    if sight.subject.problems():
        return State("bad", "▲", "In trouble" if mirror.in_flight else "Held up")
    if mirror.in_flight:
        return State("good", "▶", "Transferring")
    if any(picture.report.totals.by_status[status]["files"] for status in WAITING):
        return State("rest", "◷", "Waiting to try again")
    return State("good", "✓", "Up to date" if picture.report.totals.files else "Nothing queued yet")


def state_line(sight: Sight, picture: Picture) -> Markup:
    """The state; read out by screen readers when it changes."""
    state = state_of(sight, picture)
    sign = h("span", state.sign, aria_hidden="true")
    return h(
        "p", h("span", sign, " ", state.words, class_=f"pill {state.look}"), id="state", role="status", class_="live"
    )


def as_of(picture: Picture) -> Markup:
    return h("p", "as of ", clock_time(picture.now_ms), id="as-of", class_="live quiet")


def trouble(sight: Sight) -> Markup:
    """What is in the way, and what to do; nothing where nothing is."""
    reasons = [reason for reason in sight.subject.problems() if reason != "draining"]
    content = [h("h2", "In the way"), h("ul", [h("li", _sentence(reason)) for reason in reasons])] if reasons else []
    return h("section", content, id="trouble", class_="live", hidden=not reasons, aria_label="In the way")


def _sentence(reason: str) -> list[Markup]:
    """What happened, and on a line of its own what to do."""
    found, _, advice = reason.partition("; ")
    return [h("b", found), h("span", f" {advice[:1].upper()}{advice[1:]}.")] if advice else [h("b", found)]


def now(sight: Sight, picture: Picture) -> Markup:
    """Rate, time left, chart and files in flight."""
    report = picture.report
    own, ledger = sight.rates.lately(), report.rate_bytes_per_s
    # Other processes of the host may share the ledger: what its receipts say counts them too.
    rate = max((value for value in (own, ledger) if value is not None), default=None)
    left_s = report.bytes_left / rate if rate and report.bytes_left else None
    return section(
        "now", "Now", _figures(sight, picture, rate, left_s), _overall(picture),
        rate_chart(sight.rates.points(POINTS_MAX)), in_flight(sight, picture), class_="live",
    )  # fmt: skip


def _figures(sight: Sight, picture: Picture, rate: float | None, left_s: float | None) -> Markup:
    report, streams = picture.report, sight.subject.mirror.streams
    done = report.totals.by_status[Status.COMPLETED]["files"]
    figures = [
        ("Rate", f"{format_size(rate or 0)}/s", "over the last minute"),
        ("Time left", format_duration(left_s) if left_s else NOTHING, _ends_at(picture, left_s)),
        ("To send", format_size(report.bytes_left), f"{_unsent(picture):,} files"),
        ("Mirrored", f"{done:,}", f"of {report.totals.files:,} files"),
        ("Streams", str(streams.busy), f"of {streams.total} allowed"),
    ]
    return h("dl", [h("div", h("dt", name), h("dd", value), h("dd", note, class_="quiet")) for name, value, note in figures],
             class_="figures")  # fmt: skip


def _unsent(picture: Picture) -> int:
    counts = picture.report.totals.by_status
    return sum(counts[status]["files"] for status in (*WAITING, Status.PROCESSING))


def _ends_at(picture: Picture, left_s: float | None) -> str:
    if left_s is None:
        return "nothing to send" if not picture.report.bytes_left else "no rate yet"
    if left_s > _FAR_S:
        return "at this rate"
    end = datetime.fromtimestamp(picture.now_ms / 1000 + left_s, UTC)
    return f"until {end:%a %H:%M} UTC"


def _overall(picture: Picture) -> Markup | None:
    totals = picture.report.totals
    if not totals.bytes:
        return None
    words = f"{format_size(totals.bytes_done)} of {format_size(totals.bytes)} are in the bucket"
    share = totals.bytes_done / totals.bytes
    return h("div", bar(share), h("p", f"{100 * share:.1f} %: {words}", class_="quiet"), class_="overall")


def in_flight(sight: Sight, picture: Picture) -> Markup:
    """The files at work, by this process and by others that share the ledger."""
    rows = _merged(sight, picture)
    if not rows:
        return h("p", "No file is in flight.", class_="quiet")
    more = len(rows) - IN_FLIGHT_SHOWN
    caption = f"{len(rows)} files in flight" if len(rows) > 1 else "1 file in flight"
    heads = [("File", None), ("Progress", None), ("Size", "num"), ("Left", "num")]
    head = h("tr", [h("th", name, scope="col", class_=look) for name, look in heads])
    table = h("table", h("caption", caption), h("thead", head), h("tbody", [_row(*row) for row in rows[:IN_FLIGHT_SHOWN]]),
              class_="files")  # fmt: skip
    return h("div", table, h("p", f"and {more} more", class_="quiet") if more > 0 else None)


def _merged(sight: Sight, picture: Picture) -> list[tuple[str, int, int, int, float | None]]:
    """Key, size, bytes done, attempt, seconds left; this process knows of its own files what is under way and how fast."""
    own = dict(sight.subject.mirror.in_flight)
    found: dict[str, Any] = {file.key: file for file in picture.report.in_flight}
    rows = [(file.key, file.size, file.bytes_done, file.attempt, None) for key, file in found.items() if key not in own]
    return [(entry.key, entry.size, entry.bytes_done, entry.attempt, entry.left_s) for entry in own.values()] + rows


def _row(key: str, size: int, done: int, attempt: int, left_s: float | None) -> Markup:
    share = done / size if size else 0.0
    note = h("span", f"attempt {attempt}", class_="quiet") if attempt > 1 else None
    return h(
        "tr",
        h("th", file_link(key), " ", note, scope="row"),
        h("td", bar(share), h("span", f"{100 * share:.0f} %", class_="num"), class_="progress"),
        h("td", format_size(size), class_="num"),
        h("td", format_duration(left_s) if left_s else NOTHING, class_="num"),
    )
