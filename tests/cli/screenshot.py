"""``python -m tests.cli.screenshot FILE.svg``: the display of a run, as a terminal of 100 columns draws it."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from polyb2.cli.output import frame as display
from polyb2.cli.output.frame import Frame
from polyb2.flow.mirror import InFlight
from tests.conftest import DAY_AGGS, QUOTES, key

COLUMNS, LINES = 100, 12


def in_flight(key: str, size: int, done: int, attempt: int) -> InFlight:
    return InFlight(key, "", size, attempt, settled_bytes=done, began_s=0.0)


def main() -> None:
    """Draw it."""
    flying = [
        in_flight(key("2026-11-23", QUOTES), 171_900_000_000, 64_300_000_000, 1),
        in_flight(key("2026-11-24", "us_stocks_sip/trades_v1"), 2_310_000_000, 1_940_000_000, 1),
        in_flight(key("2026-11-24", DAY_AGGS), 412_000, 96_000, 2),
    ]
    frame = Frame(
        66_700_000_000, 121_200_000_000, 118_400_000, 41, 9, retrying=1, in_flight=flying, limit="at most 120 MB/s"
    )
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print("$ polyb2 run --concurrency 32", highlight=False)
    console.print(display.drawn(frame, COLUMNS, LINES))
    drawn = console.export_svg(title="polyb2 run")
    # Nothing is loaded from elsewhere: the reader's own monospaced font will do.
    Path(sys.argv[1]).write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
