"""Log lines: for people a line, for programs an object, and in neither a secret or a line too many."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from polyb2.cli.logs import set_up_logging, tell_failure
from polyb2.cli.manner import MANNER
from polyb2.core.errors import UsageError
from polyb2.core.logevents import LogEvent, log_fields

log = logging.getLogger("polyb2.test")
SIGNED = "https://h/k?X-Amz-Signature=s3cr3t&X-Amz-Credential=s3cr3t"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The process's manner and the library's loggers, as they were."""
    root, ours = logging.getLogger(), logging.getLogger("polyb2")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)
    MANNER.take([])


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_for_programs_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    MANNER.take(["--log-format", "json"])
    set_up_logging("INFO")
    extra = log_fields(LogEvent.FILE_COMPLETED, key="a/b", bytes=7, seconds=1.23456, reason=None, level="mine")
    log.info("done %s\nsecond", "a/b", extra=extra)
    (line,) = objects(capsys.readouterr().err)
    assert line.pop("ts").endswith("Z")
    assert list(line) == ["level", "event", "message", "key", "bytes", "seconds"]
    assert list(line.values()) == ["INFO", "file.completed", "done a/b second", "a/b", 7, 1.235]


def test_an_error_for_programs_has_its_name_and_with_debug_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--log-format=json"], ["--log-format=json", "--debug"]):
        MANNER.take(words)
        set_up_logging("INFO")
        try:
            json.loads("{}")[SIGNED]
        except KeyError:
            log.exception("no luck with %s", SIGNED)
    text = capsys.readouterr().err
    plain, debug = objects(text)
    assert (plain["error"], plain["event"], "traceback" in plain) == ("KeyError", "log.message", False)
    assert "Traceback" in debug["traceback"]
    assert "s3cr3t" not in text


def test_secrets_in_fields_are_scrubbed(capsys: pytest.CaptureFixture[str]) -> None:
    MANNER.take(["--log-format=json"])
    set_up_logging("INFO")
    log.info("x", extra=log_fields(LogEvent.FILE_FAILED, reason=SIGNED))
    assert "s3cr3t" not in capsys.readouterr().err


@pytest.mark.parametrize(("level", "lines"), [("INFO", 1), ("DEBUG", 2)])
def test_text_leaves_the_files_that_are_well_to_the_summary(
    capsys: pytest.CaptureFixture[str], level: str, lines: int
) -> None:
    MANNER.take([])
    set_up_logging(level)
    log.info("done", extra=log_fields(LogEvent.FILE_COMPLETED, key="a/b"))
    log.info("3 of 4 files", extra=log_fields(LogEvent.RUN_PROGRESS))
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_quiet_is_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    MANNER.take(["-q"])
    set_up_logging("DEBUG")
    log.warning("a warning")
    log.error("an error")
    assert capsys.readouterr().err.splitlines()[0].endswith("ERROR an error")


def test_a_failing_command_is_an_event_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    MANNER.take(["--log-format=json"])
    tell_failure("wrong", 2)
    (line,) = objects(capsys.readouterr().err)
    assert (line["event"], line["exit_code"], line["message"]) == ("command.failed", 2, "wrong")
    MANNER.take([])
    tell_failure("wrong", 2)
    assert capsys.readouterr().err == "polyb2: wrong\n"


@pytest.mark.parametrize(
    ("words", "left", "quiet", "form"),
    [
        (["run"], ["run"], False, None),
        (["-q", "run"], ["run"], True, None),
        (["run", "--quiet", "--limit", "3"], ["run", "--limit", "3"], True, None),
        (["run", "--log-format", "json"], ["run"], False, "json"),
        (["--log-format=text", "run"], ["run"], False, "text"),
        (["files", "--", "--quiet"], ["files", "--", "--quiet"], False, None),
    ],
)
def test_options_of_the_process_stand_anywhere(
    words: list[str], left: list[str], quiet: bool, form: str | None
) -> None:
    assert MANNER.take(words) == left
    assert (MANNER.quiet, MANNER.log_format) == (quiet, form)


@pytest.mark.parametrize("words", [["--log-format", "xml"], ["run", "--log-format"], ["--log-format=", "run"]])
def test_an_unknown_format_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="write text or json"):
        MANNER.take(words)


def test_the_environment_counts_before_the_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYB2_LOG_FORMAT", "JSON")
    MANNER.take(["run"])
    assert MANNER.is_json
    MANNER.take(["run", "--log-format", "text"])
    assert not MANNER.is_json
