"""Back-off of requests and of files: bounds, full jitter, Retry-After, and the tries of each kind of error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.errors import HANDLING, Kind, RemoteError, Side
from polyb2.core.retry import (
    FILE_BACKOFF_MAX_S,
    LOOKING,
    RETRY_AFTER_MAX_S,
    RequestPolicy,
    file_delay_s,
    parse_retry_after,
)

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
POLICY = RequestPolicy()
FRACTIONS = st.floats(0, 1)
ROUTINE = [kind for kind in Kind if HANDLING[kind].tries is None]


def failed(kind: Kind = Kind.SERVER_ERROR, retry_after_s: float | None = None) -> RemoteError:
    return RemoteError(Side.TARGET, kind, "x", retry_after_s=retry_after_s)


def tries(policy: RequestPolicy, kind: Kind) -> int:
    """The number of times that a request which only ever meets this kind is sent."""
    sent = 1
    while policy.delay_s(sent, failed(kind), 0.5) is not None:
        sent += 1
    return sent


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("configured", [1, 2, 10, 100])
def test_a_request_is_sent_as_often_as_its_kind_and_the_setting_allow(kind: Kind, configured: int) -> None:
    allowed = HANDLING[kind].tries
    assert tries(RequestPolicy(tries=configured), kind) == (configured if allowed is None else min(allowed, configured))


def test_who_looks_waits_for_no_long_retry_after() -> None:
    assert LOOKING.delay_s(1, failed(Kind.THROTTLED, 100), 0.5) is None
    assert LOOKING.delay_s(1, failed(Kind.THROTTLED, 2), 0.5) == 2


def test_the_contracts_ten_tries_are_the_default() -> None:
    assert {tries(POLICY, kind) for kind in ROUTINE} == {10}


@pytest.mark.parametrize(
    ("failures", "most_s"), [(1, 1.0), (2, 1.5), (3, 2.25), (4, 3.375), (11, 57.665), (12, 64.0), (99, 64.0)]
)
def test_requests_back_off_by_half_more_each_time_up_to_64_s(failures: int, most_s: float) -> None:
    assert RequestPolicy(tries=100).delay_s(failures, failed(), 1.0) == pytest.approx(most_s, rel=1e-4)


@given(st.integers(1, 99), FRACTIONS)
def test_jitter_is_full_from_nothing_to_the_whole_back_off(failures: int, fraction: float) -> None:
    policy = RequestPolicy(tries=100)
    whole_s = policy.delay_s(failures, failed(), 1.0)
    assert whole_s is not None
    assert policy.delay_s(failures, failed(), 0.0) == 0
    assert policy.delay_s(failures, failed(), fraction) == pytest.approx(fraction * whole_s)


@given(st.integers(1, 9), FRACTIONS, st.floats(0, 10**6))
def test_what_the_service_asks_for_is_not_undercut_up_to_its_bound(
    failures: int, fraction: float, asked_s: float
) -> None:
    delay_s = POLICY.delay_s(failures, failed(Kind.THROTTLED, asked_s), fraction)
    assert delay_s is not None
    assert min(asked_s, RETRY_AFTER_MAX_S) <= delay_s <= max(64.0, min(asked_s, RETRY_AFTER_MAX_S))


def test_a_retry_after_gives_no_further_try() -> None:
    assert POLICY.delay_s(10, failed(Kind.THROTTLED, 5.0), 0.5) is None


@pytest.mark.parametrize(("charged", "least_s"), [(0, 30), (1, 60), (2, 120), (6, 1920), (7, 3600), (1000, 3600)])
def test_a_file_waits_from_the_base_on_and_twice_as_long_each_time(charged: int, least_s: float) -> None:
    assert file_delay_s(charged, 30.0, 0.0) == least_s
    assert file_delay_s(charged, 30.0, 1.0) == least_s * 1.25


@given(st.integers(0, 1000), st.floats(0.001, FILE_BACKOFF_MAX_S), FRACTIONS)
def test_a_file_never_waits_less_than_the_base_nor_much_more_than_an_hour(
    charged: int, base_s: float, fraction: float
) -> None:
    assert base_s <= file_delay_s(charged, base_s, fraction) <= FILE_BACKOFF_MAX_S * 1.25


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 30, 999_999_999.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("٣", None),
        ("Tue, 02 Jan 2024 03:05:05 GMT", 60.0),
        ("Tue, 02 Jan 2024 04:04:35 +0100", 30.0),
        ("Tue, 02 Jan 2024 03:04:35 -0000", 30.0),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0.0),
        ("Tue, 99 Jan 2024 00:00:00 GMT", None),
        (f"Tue, 02 Jan {'9' * 30} 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(st.integers(-(10**6), 10**6))
def test_a_date_in_retry_after_counts_from_now_and_never_backwards(offset_s: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=offset_s), usegmt=True)
    assert parse_retry_after(header, NOW) == max(0.0, offset_s)


@given(st.text("0123456789 ,:+-JanTueGMT", max_size=40))
def test_no_header_is_worse_than_none(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0
