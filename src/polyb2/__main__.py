"""The ``polyb2`` command, and ``python -m polyb2``: from the start of the process to its end."""

import os
import signal
import sys
from contextlib import suppress

from polyb2.process import begin_loading, put_right
from polyb2.signals import STOPPING, Deferred, answering


def main() -> None:
    """Load the program and run the command line."""
    begin_loading()
    put_right(*STOPPING, signal.SIGINT)
    # pydantic would look for plugins in every installed package; and none is to see the settings, which hold the keys.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    stops = Deferred()
    # A container's first process would not even hear of a signal without a handler; an interrupt would show a traceback.
    interrupt = [signal.SIGINT] * (signal.getsignal(signal.SIGINT) is signal.default_int_handler)  # or it is ignored
    with answering(stops, *STOPPING, *interrupt):
        from polyb2.cli.main import main as run_command_line  # noqa: PLC0415 - loading is what it is about

    try:
        run_command_line(stops=stops)
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        with suppress(OSError):
            sys.stderr.flush()
        # At once: output and ledger are safe, and freeing all that a run loads takes tenths of a second.
        os._exit(end.code)


if __name__ == "__main__":
    main()
