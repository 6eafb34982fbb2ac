"""Requests to stop: each counts once, an echo never, and what was ignored from the start stays so."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from polyb2 import signals
from polyb2.signals import ECHO_S, STOPPING, answering

TERM, HUP, INT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT


class _Time:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> _Time:
    clock = _Time()
    monkeypatch.setattr(signals, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in (TERM, HUP, INT)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def test_what_comes_within_a_second_is_an_echo_by_whatever_signal(time: _Time) -> None:
    heard: list[int] = []
    with answering(heard.append, *STOPPING, INT):
        for after_s, number in ((0, TERM), (0, TERM), (ECHO_S - 0.01, HUP), (0.01, INT), (0.5, TERM), (0.6, HUP)):
            time.now_s += after_s
            signal.raise_signal(number)
    assert heard == [TERM, INT, HUP]


def test_an_echo_is_dropped_after_the_block_as_well_by_the_former_handler(time: _Time) -> None:
    outer: list[int] = []
    inner: list[int] = []
    signal.signal(TERM, lambda number, _frame: outer.append(number))
    with answering(inner.append, TERM):
        signal.raise_signal(TERM)
    signal.raise_signal(TERM)
    assert (inner, outer) == ([TERM], [])
    time.now_s += ECHO_S
    signal.raise_signal(TERM)
    assert outer == [TERM]


def test_blocks_within_blocks_share_what_was_heard(time: _Time) -> None:
    outer: list[int] = []
    inner: list[int] = []
    with answering(outer.append, TERM):
        with answering(inner.append, TERM):
            signal.raise_signal(TERM)
        signal.raise_signal(TERM)
        time.now_s += ECHO_S
        signal.raise_signal(TERM)
    assert (inner, outer) == ([TERM], [TERM])


@pytest.mark.parametrize("was", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
def test_without_a_request_the_table_is_left_as_it_was(was: signal.Handlers) -> None:
    for number in (TERM, INT):
        signal.signal(number, was)
    with answering(lambda _number: None, TERM, INT):
        assert signal.getsignal(TERM) is not was
    assert [signal.getsignal(number) for number in (TERM, INT)] == [was, was]


def test_a_hang_up_that_was_ignored_from_the_start_stays_ignored() -> None:
    signal.signal(HUP, signal.SIG_IGN)
    heard: list[int] = []
    with answering(heard.append, *STOPPING):
        signal.raise_signal(HUP)
    assert heard == []
    assert signal.getsignal(HUP) is signal.SIG_IGN
