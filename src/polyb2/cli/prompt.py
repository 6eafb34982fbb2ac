"""A question on the terminal that does not hold up the event loop, and that a signal can interrupt."""

from __future__ import annotations

import sys


async def confirm(question: str) -> bool:
    """Ask for a yes; anything else is a no, and so is the end of the input."""
    import asyncio

    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    sys.stderr.write(f"{question} [y/N]: ")
    sys.stderr.flush()
    # A terminal is readable once a whole line is there.
    loop.add_reader(sys.stdin, answered.set)
    try:
        await answered.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
