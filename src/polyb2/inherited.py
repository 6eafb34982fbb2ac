"""Repair of what a process inherits and cannot work with: closed standard streams and blocked signals.

Cron wrappers, supervisors and ``<&-`` leave descriptors 0 to 2 closed. The next file or socket would get such a number: libuv
aborts on it, and later prints would go there. A supervisor that blocks SIGTERM around its own fork hands the
block down, and a run would never receive its signal to drain.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_STREAMS = ("stdin", "stdout", "stderr")
_STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def put_right() -> None:
    """Open ``/dev/null`` for each standard stream that is closed, and unblock the signals that stop a process."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    for descriptor, name in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):  # without a /dev there is nothing to open
                # The lowest free number is this one, as those below it are open by now.
                os.open(os.devnull, os.O_RDWR)
                setattr(sys, name, open(descriptor, "w" if descriptor else "r", encoding="utf-8"))  # noqa: PTH123, SIM115
