"""Log lines: for people a line, for programs an object, and in neither a secret or a line too many."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from polyb2.cli.logs import OUTPUT, print_failure, set_up_logging
from polyb2.cli.main import main
from polyb2.core.logevents import LogEvent, log_fields

log = logging.getLogger("polyb2.test")
SIGNED = "https://h/k?X-Amz-Signature=s3cr3t&X-Amz-Credential=s3cr3t"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The options of output and the library's loggers, as they were."""
    root, ours = logging.getLogger(), logging.getLogger("polyb2")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)
    OUTPUT.reset()


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_for_programs_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    OUTPUT.set(log_format="json")
    set_up_logging("INFO")
    extra = log_fields(LogEvent.FILE_COMPLETED, key="a/b", bytes=7, seconds=1.23456, reason=None, level="mine")
    log.info("done %s\nsecond", "a/b", extra=extra)
    (line,) = objects(capsys.readouterr().err)
    assert line.pop("ts").endswith("Z")
    assert list(line) == ["level", "event", "message", "key", "bytes", "seconds"]
    assert list(line.values()) == ["INFO", "file.completed", "done a/b second", "a/b", 7, 1.235]


def test_an_error_for_programs_has_its_name_and_with_debug_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for debug in (False, True):
        OUTPUT.set(log_format="json", debug=debug)
        set_up_logging("INFO")
        try:
            json.loads("{}")[SIGNED]
        except KeyError:
            log.exception("no luck with %s", SIGNED)
    text = capsys.readouterr().err
    plain, full = objects(text)
    assert (plain["error"], plain["event"], "traceback" in plain) == ("KeyError", "log.message", False)
    assert "Traceback" in full["traceback"]
    assert "s3cr3t" not in text


def test_secrets_in_fields_are_scrubbed(capsys: pytest.CaptureFixture[str]) -> None:
    OUTPUT.set(log_format="json")
    set_up_logging("INFO")
    log.info("x", extra=log_fields(LogEvent.FILE_FAILED, reason=SIGNED))
    assert "s3cr3t" not in capsys.readouterr().err


@pytest.mark.parametrize(("level", "lines"), [("INFO", 1), ("DEBUG", 2)])
def test_text_leaves_the_files_that_are_well_to_the_summary(
    capsys: pytest.CaptureFixture[str], level: str, lines: int
) -> None:
    OUTPUT.reset()
    set_up_logging(level)
    log.info("done", extra=log_fields(LogEvent.FILE_COMPLETED, key="a/b"))
    log.info("3 of 4 files", extra=log_fields(LogEvent.RUN_PROGRESS))
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_quiet_is_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    OUTPUT.set(quiet=True)
    set_up_logging("DEBUG")
    log.warning("a warning")
    log.error("an error")
    assert capsys.readouterr().err.splitlines()[0].endswith("ERROR an error")


def test_a_failing_command_is_an_event_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    OUTPUT.set(log_format="json")
    print_failure("wrong", 2)
    (line,) = objects(capsys.readouterr().err)
    assert (line["event"], line["exit_code"], line["message"]) == ("command.failed", 2, "wrong")
    OUTPUT.reset()
    print_failure("wrong", 2)
    assert capsys.readouterr().err == "polyb2: wrong\n"


def ended(*words: str) -> object:
    """The exit code of a command line in this process."""
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code


@pytest.mark.parametrize(
    ("words", "quiet", "form"),
    [
        (["status"], False, "text"),
        (["-q", "status"], True, "text"),
        (["status", "--quiet", "--json"], True, "text"),
        (["status", "--log-format", "json"], False, "json"),
        (["--log-format=text", "status", "-q"], True, "text"),
        (["--log-format", "json", "status", "--log-format", "text"], False, "text"),
        (["files", "--", "--quiet"], False, "text"),
    ],
)
@pytest.mark.usefixtures("capsys")
def test_options_of_output_stand_before_and_after_a_command(words: list[str], quiet: bool, form: str) -> None:
    assert ended(*words) in {0, 3}
    assert (OUTPUT.quiet, OUTPUT.log_format) == (quiet, form)


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--log-format", "json", "--no-such"],
        ["status", "--no-such", "--log-format=json"],
        ["--no-such", "--log-format=json", "status"],
        ["files", "--lookback-days", "many", "--log-format", "json"],
        ["status", "unwanted", "--log-format", "json"],
        ["run", "--log-format", "json", "--limit"],
        ["--no-such", "status", "--log-format", "json"],
        ["nosuch", "--log-format", "json"],
        ["status", "--debug=1", "--log-format", "json"],
        ["status", "--debug=1", "-q", "unwanted", "--log-format=json"],
    ],
)
def test_a_wrong_command_line_is_reported_in_the_format_that_it_names(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert ended(*words) == 2
    (line,) = objects(capsys.readouterr().err)
    assert (line["event"], line["exit_code"]) == ("command.failed", 2)


@pytest.mark.parametrize(
    "words", [["--log-format", "xml", "run"], ["run", "--log-format", "xml"], ["--log-format=", "run"]]
)
def test_an_unknown_format_is_refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert ended(*words) == 2
    assert "write text or json" in capsys.readouterr().err


@pytest.mark.usefixtures("capsys")
def test_the_environment_counts_before_the_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYB2_LOG_FORMAT", "JSON")
    OUTPUT.reset()
    assert OUTPUT.is_json
    ended("status", "--log-format", "text")
    assert not OUTPUT.is_json
