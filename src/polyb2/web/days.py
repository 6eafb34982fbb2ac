"""Coverage: the last days of the chosen datasets side by side, and a year of one of them as a calendar to hover and click."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import groupby

from polyb2.core.coverage import Day, DayState, YearCalendar
from polyb2.core.units import format_duration, format_size
from polyb2.web.markup import Markup, h
from polyb2.web.shell import breakable, day_url, scrolling, section
from polyb2.web.sight import Recent

STRIP_DAYS = 14
STRIP_DAYS_OF_MANY = 7
MANY = 12
"""Datasets above which the strip is a week, so that the page stays small."""
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WEEK = len(WEEKDAYS)
SATURDAY = 5
SIGNS = {
    DayState.MIRRORED: ("m", "✓", "mirrored"),
    DayState.REVISED: ("r", "↻", "replaced at the source"),
    DayState.QUEUED: ("q", "…", "queued"),
    DayState.FAILED: ("f", "✕", "failed"),
    DayState.NOT_ENTITLED: ("n", "⊘", "not in your plan"),
    DayState.AVAILABLE: ("a", "+", "listed, not chosen"),
    DayState.LATE: ("l", "!", "late"),
    DayState.MISSING: ("x", "?", "missing at the source"),
    DayState.EXPECTED: ("e", "○", "not due yet"),
    DayState.UNKNOWN: ("u", "·", "nobody looked yet"),
    DayState.CLOSED: ("c", "\N{EN DASH}", "no trading"),
    DayState.BEFORE: ("b", "", "before the first file"),
}
"""The class, the sign and the words of a day's state."""
_WITHOUT_STORY = {DayState.CLOSED, DayState.BEFORE, DayState.EXPECTED}


def coverage(recent: Recent, years: Mapping[str, range], calendar: YearCalendar | None) -> Markup:
    """The section: strip, choice, calendar, legend."""
    if calendar is None:
        words = "Nothing is known of any dataset yet: the first discovery fills the calendar."
        return section("coverage", "Coverage", h("p", words, class_="quiet"))
    counts = calendar.counts()
    legend = [
        h("li", h("i", sign, class_=f"day {look}", aria_hidden="true"), f" {counts[state]} {words}")
        for state, (look, sign, words) in SIGNS.items()
        if counts[state] and state is not DayState.BEFORE
    ]
    return section(
        "coverage", "Coverage", strip(recent), _choice(calendar, years), year_grid(calendar),
        h("p", "A day's figures stand here when it is pointed at.", id="pointed", class_="quiet script"),
        h("ul", legend, class_="legend", aria_label="Days of the year by state"),
    )  # fmt: skip


def strip(recent: Recent) -> Markup | None:
    """The last days: a row a dataset, a column a day."""
    count = STRIP_DAYS if len(recent.days) <= MANY else STRIP_DAYS_OF_MANY
    rows = {dataset: days[-count:] for dataset, days in recent.days.items() if days}
    if not rows:
        return None
    heads = [h("th", h("span", day.date.strftime("%a")[:2], class_="quiet"), h("br"), day.date.day, scope="col",
               class_="c" if day.date.weekday() >= SATURDAY else None)
             for day in next(iter(rows.values()))]  # fmt: skip
    body = [
        h("tr", h("th", breakable(dataset), scope="row"), [h("td", _cell(day, SIGNS[day.state][1])) for day in days],
          h("td", _complete(days, recent.lags_s.get(dataset, 0.0)), class_="lag"))
        for dataset, days in rows.items()
    ]  # fmt: skip
    table = h(
        "table",
        h("caption", f"The last {count} days"),
        h("thead", h("tr", h("th", "Dataset", scope="col"), heads, h("th", "Complete", scope="col"))),
        h("tbody", body),
        class_="strip",
    )
    return scrolling(f"The last {count} days by dataset", table)


def _complete(days: list[Day], lag_s: float) -> Markup:
    if any(day.state is DayState.NOT_ENTITLED for day in days):
        return h("span", h("i", "⊘", aria_hidden="true"), " not in your plan", class_="sign rest")
    if not lag_s:
        return h("span", h("i", "✓", aria_hidden="true"), " yes", class_="sign good")
    return h("span", h("i", "!", aria_hidden="true"), f" {format_duration(lag_s)} behind", class_="sign late")


def _choice(calendar: YearCalendar, years: Mapping[str, range]) -> Markup:
    """The dataset and year to show; a form, so that it works without the script."""
    datasets = [h("option", name, selected=name == calendar.dataset) for name in years]
    known = reversed(years.get(calendar.dataset, range(0)))
    numbers = [h("option", year, selected=year == calendar.year) for year in known]
    return h(
        "form",
        h("label", "Dataset ", h("select", datasets, name="dataset")),
        h("label", "Year ", h("select", numbers, name="year")),
        h("button", "Show"),
        action="/#coverage",
        method="get",
        class_="choice",
    )


def year_grid(calendar: YearCalendar) -> Markup:
    """A year as twelve small calendars."""
    months = groupby(calendar.days, key=lambda day: day.date.month)
    return h("div", [_month(list(days)) for _, days in months], class_="year", id="year")


def _month(days: list[Day]) -> Markup:
    first = days[0].date
    cells = [h("td")] * first.weekday() + [h("td", _cell(day, str(day.date.day))) for day in days]
    weeks = [h("tr", cells[start : start + WEEK]) for start in range(0, len(cells), WEEK)]
    names = h("tr", [h("th", h("abbr", name[:1], title=name), scope="col") for name in WEEKDAYS])
    return h("table", h("caption", f"{first:%B %Y}"), h("thead", names), h("tbody", weeks))


def _cell(day: Day, shown: str) -> Markup:
    """A day, as a link to its file's story where there is one."""
    look, _, _ = SIGNS[day.state]
    if day.state in _WITHOUT_STORY:
        return h("span", shown, class_=look, title=_title(day))
    return h("a", shown, class_=look, href=day_url(day.dataset, day.date), title=_title(day))


def _title(day: Day) -> str | None:
    """What a day's sign and colour mean; the script puts the date before it."""
    if day.state is DayState.CLOSED:
        return day.closed_for if day.date.weekday() < SATURDAY else None
    newest = ""
    if day.state is DayState.REVISED and day.file is not None:
        newest = ", the newest waits until you agree to it" if day.file.newer_is_held else ", the newest is queued"
    size = f", {format_size(day.file.size)}" if day.file is not None else ""
    revision = f", revision {day.file.revision}" if day.file is not None and day.file.revision > 1 else ""
    return f"{SIGNS[day.state][2]}{newest}{size}{revision}"


def latest_year(years: range, today: date) -> int:
    """The year to show first: this one, or the last of which anything is known."""
    return min(max(years.stop - 1, years.start), (today + timedelta(days=1)).year)
