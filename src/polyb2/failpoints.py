"""Named points in the flow at which a test can make the process die or fail; without the variable they do nothing.

``POLYB2_FAILPOINTS="ledger.receipt.after=kill@3,target.complete.before=term"``: at the third passing of the first point the
process gets SIGKILL. For tests only: no setting, not in ``.env``. Points: ``ledger.<write>.before|after`` around every
write transaction, ``<side>.<operation>.before|after`` around every request.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "POLYB2_FAILPOINTS"


class FailpointError(Exception):
    """Raised by the action ``raise``: an error that no code expects."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _raise() -> None:
    raise FailpointError


_ACTIONS: dict[str, Callable[[], None]] = {"kill": _kill, "stop": _stop, "term": _term, "raise": _raise}


def _parse(text: str) -> dict[str, tuple[Callable[[], None], int]]:
    points = {}
    for item in filter(None, text.split(",")):
        name, _, action = item.partition("=")
        word, _, nth = action.partition("@")
        points[name] = (_ACTIONS[word], int(nth or 1))
    return points


_points = _parse(os.environ.get(VARIABLE, ""))
_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Pass a point; act if a test asked for it here at this count."""
    if not _points:
        return
    armed = _points.get(name)
    if armed is None:
        return
    action, nth = armed
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] == nth:
        action()
