"""The contract with programs that read the log: the document names each event of the code, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from polyb2.core.logevents import LogEvent, log_fields

ROOT = Path(__file__).parents[2]


def test_the_document_lists_the_events_of_the_code_and_no_other() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z]+\.[a-z]+`(?:, `[a-z]+\.[a-z]+`)*) \|", text, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"[a-z.]+", row)]
    assert sorted(listed) == sorted(LogEvent)


def test_every_event_is_told_somewhere() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert [event.name for event in LogEvent if f"LogEvent.{event.name}" not in code] == []


def test_fields_that_do_not_apply_are_left_out() -> None:
    assert log_fields(LogEvent.MESSAGE, a=1, b=None)["fields"] == {"a": 1}
