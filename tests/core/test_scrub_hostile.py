"""Foreign text of any kind, at any place where it is shown: bounded in time, escaped, and without our keys."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from polyb2.cli.logs import OUTPUT, say, set_up_logging
from polyb2.cli.output.console import console, print_table, table
from polyb2.core.classification import Answer, Form, classify
from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.news import News, Topic
from polyb2.core.scrub import hide, scrub, shown
from polyb2.remote.classify import from_body

SECRET = "K005/Zq+9x=Abc_dEf"
MEGABYTE = 1_000_000
HOSTILE = {
    "escape": "\x1b[2Jkey",
    "C1": "\x9b2Jkey",
    "bidi": "\u202egpj.exe",
    "CR LF": "a\r\nforged line",
    "bell, null, delete": "\x07\x00\x7f",
    "surrogate": "\udc9b",
    "line separator": "a\u2028b",
    "our key": f"no key {SECRET} here",
    "our key, encoded": f"/{quote(SECRET, safe='')}/",
    "our key, encoded in lower case": f"/{SECRET.replace('/', '%2f').replace('+', '%2b').replace('=', '%3d')}/",
}
LONG = {
    "question marks": "?" * MEGABYTE,
    "a?a?": "a?" * (MEGABYTE // 2),
    "Signature=": "Signature=" * (MEGABYTE // 10),
    "X-Amz-": "X-Amz-" * (MEGABYTE // 6),
    "percent": "%2" * (MEGABYTE // 2),
    "Code": "<Code>" * (MEGABYTE // 6),
    "cap": "cap " * (MEGABYTE // 4),
    "escape": "\x1b" * MEGABYTE,
    "blanks": " " * MEGABYTE,
}


def _log(text: str) -> None:
    set_up_logging("INFO")
    logging.getLogger("polyb2.test").warning("%s", text)


def _log_json(text: str) -> None:
    OUTPUT.set(log_format="json")
    _log(text)


def _in_table(text: str) -> None:
    made = table("key")
    made.add_row(text)
    print_table(console(), made)


def _error(text: str) -> None:
    say(str(RemoteError(Side.TARGET, Kind.REFUSED, text, code=text)))


def _body(text: str) -> None:
    say(
        str(
            from_body(
                Side.TARGET, "put", 400, {}, f"<Code>{text}</Code><Message>{text}</Message>".encode("utf-8", "replace")
            )
        )
    )


PLACES: dict[str, Callable[[str], None]] = {
    "stderr": say,
    "log": _log,
    "log as JSON": _log_json,
    "table": _in_table,
    "line": lambda text: console().print(text),
    "error": _error,
    "answer": _body,
    "news": lambda text: say(News(Topic.UNFINISHED, text).line),
}


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    root, ours = logging.getLogger(), logging.getLogger("polyb2")
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(ours, "level", ours.level)
    OUTPUT.reset()
    hide(SECRET)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_hostile_is_shown_anywhere(place: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    PLACES[place](HOSTILE[what])
    OUTPUT.reset()
    caught = capsys.readouterr()
    out = caught.out + caught.err
    assert out.strip()
    assert not [character for character in out if character != "\n" and not character.isprintable()], out
    assert "\udc9b" not in out
    assert "Zq" not in out
    if place not in {"stderr", "table", "line"}:
        assert out.count("\n") == 1


@pytest.mark.parametrize("what", LONG)
def test_a_megabyte_takes_no_time_and_is_cut(what: str) -> None:
    began_s = time.process_time()
    text = shown(LONG[what])
    str(classify(Answer(Side.TARGET, "put", 503, Form.ERROR, code=LONG[what], message=LONG[what])))
    from_body(Side.TARGET, "put", 503, {}, LONG[what].encode())
    News(Topic.UNFINISHED, LONG[what])
    assert time.process_time() - began_s < 1
    assert len(text) < 5 * 60_000


def test_a_key_at_the_edge_of_the_cut_is_not_cut_in_two() -> None:
    for before in range(49_900, 50_010):
        assert "Zq" not in scrub("x" * before + SECRET + "y" * 5000)
