"""Requests to stop by signal: each counts once, however often it is sent, until the process has ended.

GNU ``timeout`` sends SIGTERM twice within a millisecond, to the process and to its group; a service manager may as well. So
any signal within a second of a request is its echo. SIGHUP, of a closed terminal or SSH session, is such a request
too, except under ``nohup``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ECHO_S = 1.0
STOPPING = (signal.SIGTERM, signal.SIGHUP)


class Stopped(SystemExit):
    """A request to stop ended the command outside the engine, which drains; what was open is closed.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class Deferred:
    """Keeps the requests to stop that come before a command begins, as a run has an answer of its own; then raises each."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._is_over = False

    def __call__(self, number: int) -> None:
        if self._is_over:
            raise Stopped(number)
        self._kept.append(number)

    def end(self) -> None:
        """Begin to raise, at once where one was kept.

        Raises:
            Stopped: for the first of them.
        """
        self._is_over, kept, self._kept = True, self._kept, []
        if kept:
            raise Stopped(kept[0])


class _Requests:
    """A signal handler that passes on a request and drops its echoes."""

    def __init__(self, answer: Callable[[int, FrameType | None], Any], heard_s: float | None = None) -> None:
        self.heard_s = heard_s
        self._answer = answer

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self.heard_s is not None and now_s - self.heard_s < ECHO_S:
            return
        self.heard_s = now_s
        self._answer(number, frame)


@contextmanager
def answering(answer: Callable[[int], Any], *numbers: signal.Signals) -> Iterator[None]:
    """Let ``answer`` handle the requests to stop while the block lasts; an echo is still dropped after it.

    Args:
        answer: is called with the signal's number, between two steps of the main thread.
        numbers: the signals; SIGHUP is left alone where it was ignored from the start.
    """
    former = {number: signal.getsignal(number) for number in numbers}
    requests = _Requests(lambda number, _frame: answer(number))
    for number, was in former.items():
        if not (number == signal.SIGHUP and was is signal.SIG_IGN):
            signal.signal(number, requests)
    try:
        yield
    finally:
        for number, was in former.items():
            signal.signal(number, _after(requests, was))


def _after(requests: _Requests, was: Any) -> Any:  # noqa: ANN401 - any entry of the table of signals
    """The former handler, which does not receive echoes of a request that was handled meanwhile."""
    was = signal.SIG_DFL if was is None else was
    if requests.heard_s is None:
        return was
    if isinstance(was, _Requests):
        was.heard_s = requests.heard_s
        return was
    return _Requests(was if callable(was) else _by_default(was), requests.heard_s)


def _by_default(was: signal.Handlers) -> Callable[[int, FrameType | None], None]:
    """Do what the system does with a signal that has no handler."""

    def answer(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, was)
        signal.raise_signal(number)

    return answer
