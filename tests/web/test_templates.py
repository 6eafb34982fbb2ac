"""The templates: foreign text stays text in each of them, whatever it holds; none can forget it; all are in the package."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from polyb2.core.coverage import Day, DayState, FileOfDay, YearCalendar
from polyb2.core.scrub import escape
from polyb2.core.status import Status
from polyb2.ledger.rows import AttemptRow, FileRow, History, RevisionRow
from polyb2.ledger.status_report import Failure, Runner, StatusReport, Tally
from polyb2.web import render as rendering
from polyb2.web.days import coverage_of
from polyb2.web.history import history_of
from polyb2.web.overview import overview_of
from polyb2.web.render import render
from polyb2.web.signs import DAY_SIGNS
from polyb2.web.snapshot import FileInFlight, ProcessState, Recent, Snapshot

ROOT = Path(__file__).parents[2]
FOLDER = Path(rendering.__file__).parent / "templates"
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())}
HOSTILE = "<b onclick=x>\"'&amp;\x1b[31m\u202e\u2066"
NOW = datetime(2024, 1, 5, tzinfo=UTC)
REVISION = RevisionRow(1, HOSTILE, 5, 0, 0, None, HOSTILE, HOSTILE, HOSTILE)
ATTEMPT = AttemptRow(1, 1, HOSTILE, 0, None, HOSTILE, HOSTILE, None)
FILE = FileRow(
    file_id=1, key=HOSTILE, dataset=HOSTILE, date=HOSTILE, status=Status.FAILED_UPLOAD, reason=HOSTILE, size=10,
    source_etag=HOSTILE, source_last_modified_ms=0, dest_key=HOSTILE, dest_etag=HOSTILE, dest_version_id=HOSTILE,
    revision=2, mirrored_revision=1, mirrored_source_etag=HOSTILE, attempt=1, retry_count=0, worker_id=HOSTILE,
    bytes_done=5, parts_total=2, parts_done=1, verification="etag", error_message=HOSTILE, discovered_at_ms=0,
    started_at_ms=0, completed_at_ms=0, next_attempt_ms=1,
)  # fmt: skip


def process(**changes: Any) -> ProcessState:
    file = FileInFlight(HOSTILE, 10, 5, 2)
    state = ProcessState(False, [f"{HOSTILE}; {HOSTILE}"], [file] * 15, 1, 32, None, [(10.0, 1e6), (5.0, 2e6)])
    return replace(state, **changes)


def snapshot(**changes: Any) -> Snapshot:
    tally = Tally(files=2, bytes=10, bytes_done=5, bytes_left=5)
    tally.by_status[Status.PERMANENT_FAILURE] = {"files": 1, "bytes": 5}
    runners = [Runner(HOSTILE, HOSTILE, HOSTILE, 0, 3, 32, 1.0, None, None), Runner("b", "b", "1", 0, *[None] * 5)]
    report = StatusReport(tally, {HOSTILE: tally, "a/b": tally}, runners=runners, rate_bytes_per_s=1.0)
    failures = [Failure(f"{HOSTILE}{number}", Status.FAILED_UPLOAD, HOSTILE, HOSTILE, 0, 1) for number in (1, 1, 2)]
    return replace(Snapshot(1000, report, {HOSTILE: 1}, 0, failures), **changes)


def calendar() -> YearCalendar:
    file = FileOfDay(date(2024, 1, 1), Status.COMPLETED, HOSTILE, 5, 2, 1)
    days = [Day(HOSTILE, date(2024, 1, number), state, HOSTILE, file) for number, state in enumerate(DayState, 1)]
    return YearCalendar(HOSTILE, 2024, tuple(days))


def shown() -> dict[str, str]:
    """Every page and part, made of text that is hostile wherever it is foreign."""
    recent = Recent({HOSTILE: list(calendar().days)}, {HOSTILE: 5.0})
    calm = snapshot(report=StatusReport(), failures=[])
    now, nothing = overview_of(snapshot(), process()), overview_of(calm, process(problems=[], in_flight=[], points=[]))
    state, live = render("state.html", now=now), render("live.html", now=now)
    coverage = render("coverage.html", coverage=coverage_of(recent, {HOSTILE: range(2023, 2025)}, calendar()))
    untroubled = History(replace(FILE, status=Status.COMPLETED, error_message=None, reason=None), [REVISION], [])
    return {
        "the overview": render("overview.html", state=state, live=live, coverage=coverage),
        "the overview of nothing": render(
            "overview.html",
            state=state,
            live=render("live.html", now=nothing),
            coverage=render("coverage.html", coverage=None),
        ),
        "a history": render("history.html", history=history_of(History(FILE, [REVISION], [ATTEMPT]))),
        "a history without trouble": render("history.html", history=history_of(untroubled)),
        "an unknown key": render("unknown.html", key=HOSTILE, discover=HOSTILE),
        "no key": render("unknown.html", key="", discover=None),
        "a problem": render("problem.html", title=HOSTILE, words=HOSTILE),
    }


class Seen(HTMLParser):
    """The elements, the attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.values: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{name}={value}"
            self.values.append(value or "")

    def handle_data(self, data: str) -> None:
        self.values.append(data)


@pytest.mark.parametrize("name", shown())
def test_hostile_text_is_text_and_steers_nothing(name: str) -> None:
    page = shown()[name]
    assert page.startswith("<!DOCTYPE html>")
    assert not {"\x1b", "\u202e", "\u2066"} & {*page}
    assert "b onclick" not in page.replace("&lt;b onclick", "")
    assert "None" not in page.replace("None yet.", "")
    assert escape(HOSTILE) in "".join(Seen(page).values) or name in {"no key", "the overview of nothing"}
    assert "<td>\N{EN DASH}</td>" in page or "history" not in name, "an absent value is a dash"


@given(st.text())
@example(HOSTILE)
@example("' onfocus=alert(1) ")
def test_any_text_stays_text_in_elements_and_attributes(text: str) -> None:
    usual, strange = (Seen(render("unknown.html", key=key, discover=None)) for key in ("usual", text or "?"))
    assert strange.elements == usual.elements
    wanted = [escape(text or "?") if value == "usual" else value for value in usual.values]
    assert strange.values == wanted
    assert usual.values.count("usual") == 2, "as a heading and as a value"


def test_a_name_that_no_value_has_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="words"):
        render("problem.html", title="x")


@pytest.mark.parametrize("name", SOURCES)
def test_no_template_gets_round_the_escaping(name: str) -> None:
    """Autoescaping is sound within quotes only; what comes from a table of ours, one letter each, is written without."""
    source = SOURCES[name]
    assert not re.search(
        r"\|\s*(safe|e|escape|forceescape|tojson|xmlattr|urlize|striptags)\b|autoescape|Markup", source
    )
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)|javascript:", source)
    assert {*re.findall(r"=(\{\{.*?\}\})", source)} <= {"{{ day.sign.look }}"}
    assert all(re.fullmatch("[a-z]", sign.look) for sign in DAY_SIGNS.values())


def test_every_template_is_tried_here() -> None:
    """A part is tried with the page that takes it in."""
    code = "".join(path.read_text(encoding="utf-8") for path in FOLDER.parent.glob("*.py"))
    parts = {
        match for source in SOURCES.values() for match in re.findall(r'(?:include|import|extends) "(\S+)"', source)
    }
    rendered, tried = (
        set(re.findall(r'(?:render|page)\(\s*"(\S+\.html)"', text))
        for text in (code, Path(__file__).read_text(encoding="utf-8"))
    )
    assert rendered | parts == {*SOURCES}, "one that nothing shows is left over"
    assert rendered == tried


def test_the_wheel_shows_pages(tmp_path: Path) -> None:
    """Templates and assets are package data, and are found without a folder of their own."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name.rpartition("/")[2] for name in zipfile.ZipFile(wheel).namelist() if "/web/templates/" in name}
    assert packed == {*SOURCES}
    script = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); import polyb2; assert polyb2.__file__.startswith({str(wheel)!r})\n"
        "from polyb2.web.render import problem_page; print(problem_page(404, 'Not here', '').text)"
    )
    page = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert "<h1>Not here</h1>" in page
    assert "/page.css?v=" in page
