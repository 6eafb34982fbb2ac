"""Names beyond the first twenty: a command that has them all is named, and only one that has."""

from __future__ import annotations

import pytest

from polyb2.cli.output.console import NAMED_MAX
from polyb2.cli.output.results import print_outcome, print_report
from polyb2.core.status import Event
from polyb2.flow.discover.findings import Report
from polyb2.flow.run.pool import Outcome
from tests.conftest import key

NAMES = [key(f"2024-01-{day:02}") for day in range(1, NAMED_MAX + 3)]


def test_the_rest_of_a_list_is_where_the_words_say(capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(Outcome(unfinished=dict.fromkeys(NAMES, Event.PARK)), 1.0)
    assert "not completed: 2 more\n" in capsys.readouterr().out
    print_report(Report(not_published=NAMES))
    assert "nothing is listed for 2 more (polyb2 discover --json names them)\n" in capsys.readouterr().out
