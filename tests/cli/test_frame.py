"""The live display: whatever the figures and the width, no line wraps, and a key keeps its dataset and its date."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from polyb2.cli.output import frame as display
from polyb2.cli.output.frame import Frame, elided
from polyb2.core.catalogue import DATASETS
from tests.cli.screenshot import in_flight
from tests.conftest import key

SIZES = st.integers(0, 10**15)
KEYS = st.one_of(
    st.sampled_from(DATASETS).map(lambda dataset: key("2024-01-02", dataset)), st.text(min_size=1, max_size=120)
)
FILES = st.builds(in_flight, KEYS, SIZES, SIZES, st.integers(1, 12))
FRAMES = st.builds(
    Frame,
    bytes_done=SIZES,
    bytes_left=SIZES,
    rate=st.one_of(st.none(), st.floats(0.1, 10**11)),
    files_done=st.integers(0, 10**6),
    files_left=st.integers(0, 10**6),
    retrying=st.integers(0, 10**6),
    parked=st.integers(0, 10**6),
    in_flight=st.lists(FILES, max_size=40),
    limit=st.sampled_from(["", "limit 50.0 MB/s until 18:00"]),
)


def drawn(frame: Frame, width: int, height: int = 24) -> list[str]:
    """The lines as a terminal of that width gets them."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None, markup=False)
    console.print(display.drawn(frame, width, height))
    return out.getvalue().splitlines()


@given(FRAMES, st.integers(60, 220), st.integers(10, 60))
@example(Frame(0, 0, None, 0, 1, in_flight=[in_flight("\x1e" * 40, 0, 0, 2)]), 60, 10)
def test_no_line_wraps_and_all_fit_on_the_screen(frame: Frame, width: int, height: int) -> None:
    lines = drawn(frame, width, height)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) == min(2 + len(frame.in_flight), max(1, height - 5) + 2)


def test_a_display_of_80_columns() -> None:
    one = in_flight(key("2024-01-02", "us_options_opra/minute_aggs_v1"), 28_300_000, 7_075_000, 1)
    two = in_flight(key("2024-01-03", "us_futures_comex/session_aggs_v1"), 20_000, 20_000, 3)
    frame = Frame(
        bytes_done=250e6,
        bytes_left=750e6,
        rate=25e6,
        files_done=3,
        files_left=9,
        retrying=2,
        parked=1,
        in_flight=[one, two],
        limit="limit 50.0 MB/s until 18:00",
    )
    head, second, first_file, second_file = drawn(frame, 80)
    assert head.endswith(" 25 %  250.0 MB of 1.0 GB  25.0 MB/s  30s left")
    assert second == "3 of 12 files, 2 in flight, 2 to retry, 1 parked, limit 50.0 MB/s until 18:00"
    assert first_file.endswith(" 25 %    28.3 MB  us_options_opra/minute_aggs_v1/…/2024-01-02.csv.gz")
    assert second_file.endswith("100 %    20.0 kB  us_futures_comex/se…ggs_v1/…/2024-01-03  attempt 3")
    assert frame.words() == (
        "3 of 12 files, 250.0 MB of 1.0 GB, 25.0 MB/s, 30s left, 2 to retry, 1 parked, limit 50.0 MB/s until 18:00"
    )


@pytest.mark.parametrize(("rate", "left_s"), [(1e6, 1000), (0.5, None), (0.0, None)], ids=["moves", "drips", "rests"])
def test_a_time_left_that_is_no_estimate_is_not_shown(rate: float, left_s: float | None) -> None:
    frame = Frame(bytes_done=0, bytes_left=1e9, rate=rate, files_done=0, files_left=1)
    assert frame.eta_s == left_s


def test_trouble_is_told_in_full() -> None:
    words = "paused: target: cap exceeded; raise the cap on Backblaze's Caps & Alerts page " * 2
    frame = Frame(bytes_done=0, bytes_left=1, rate=None, files_done=0, files_left=1, trouble=words.strip())
    assert " ".join(" ".join(drawn(frame, 80)[2:]).split()) == words.strip()


@given(KEYS, st.integers(3, 100))
def test_a_shortened_key_fits(name: str, width: int) -> None:
    assert len(elided(name, width)) <= width


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, "us_options_opra/minute_aggs_v1/2024/01/2024-01-02.csv.gz"),
        (50, "us_options_opra/minute_aggs_v1/…/2024-01-02.csv.gz"),
        (44, "us_options_opra/minute_aggs_v1/…/2024-01-02…"),
        (30, "us_options_opr…v1/…/2024-01-02"),
    ],
)
def test_a_key_is_shortened_where_nothing_is_lost_first(width: int, shown: str) -> None:
    assert elided(key("2024-01-02", "us_options_opra/minute_aggs_v1"), width) == shown


def test_a_key_may_hold_markup_and_is_text() -> None:
    frame = Frame(
        bytes_done=0,
        bytes_left=1,
        rate=None,
        files_done=0,
        files_left=1,
        in_flight=[in_flight("[red]x[/red]", 1, 0, 1)],
    )
    assert drawn(frame, 80)[2].endswith("[red]x[/red]")
