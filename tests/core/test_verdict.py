"""The consequences of a failed attempt: charged or not charged, and the parking of a file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyb2.core.errors import HANDLING, Kind, RemoteError, Scope, Side
from polyb2.core.status import TRANSITIONS, Event, Status
from polyb2.core.verdict import Verdict, judge

INCURABLE = {kind for kind in Kind if not HANDLING[kind].cured_by_retry}
SPECIAL = {Kind.FORBIDDEN, *INCURABLE}
ORDINARY = [kind for kind in Kind if HANDLING[kind].scope is Scope.FILE and kind not in SPECIAL]
ACCOUNT = [kind for kind in Kind if HANDLING[kind].scope is Scope.ACCOUNT]
FAILED = {Side.SOURCE: Event.FAIL_DOWNLOAD, Side.TARGET: Event.FAIL_UPLOAD}


def judged(kind: Kind, side: Side = Side.SOURCE, **facts: Any) -> Verdict:
    given: dict[str, Any] = {
        "retry_count": 0,
        "max_retries": 2,
        "made_progress": False,
        "forbidden_before": False,
        "outage": False,
    }
    return judge(RemoteError(side, kind, "x"), **(given | facts))


@pytest.mark.parametrize("kind", ORDINARY)
@pytest.mark.parametrize("side", Side)
def test_the_third_charged_failure_parks_the_file(kind: Kind, side: Side) -> None:
    assert [judged(kind, side, retry_count=count) for count in range(3)] == [
        Verdict(FAILED[side], str(kind), charged=True, waits=True),
        Verdict(FAILED[side], str(kind), charged=True, waits=True),
        Verdict(Event.PARK, str(kind), charged=True, waits=False),
    ]


@pytest.mark.parametrize("kind", ORDINARY)
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("facts", [{"made_progress": True}, {"outage": True}], ids=str)
def test_progress_or_an_outage_is_not_charged_even_at_the_last_retry(
    kind: Kind, side: Side, facts: dict[str, bool]
) -> None:
    verdict = judged(kind, side, retry_count=2, **facts)
    assert verdict == Verdict(FAILED[side], str(kind), charged=False, waits=True)


@pytest.mark.parametrize("side", Side)
def test_a_connection_that_was_never_established_is_not_charged(side: Side) -> None:
    verdict = judged(Kind.UNREACHABLE, side, retry_count=2)
    assert verdict == Verdict(FAILED[side], "unreachable", charged=False, waits=True)


@pytest.mark.parametrize("kind", [*ACCOUNT, Kind.CAP_EXCEEDED])
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("outage", [False, True])
def test_a_cap_or_refused_keys_give_the_row_back_with_the_reason(kind: Kind, side: Side, outage: bool) -> None:
    verdict = judged(kind, side, retry_count=2, outage=outage)
    assert verdict == Verdict(Event.RELEASE, str(kind), charged=False, waits=False)
    assert TRANSITIONS[verdict.event][1] is Status.PENDING


@pytest.mark.parametrize("retry_count", [0, 1, 2])
def test_the_first_403_of_a_file_waits_and_the_second_parks_it_as_not_entitled(retry_count: int) -> None:
    first = judged(Kind.FORBIDDEN, retry_count=retry_count)
    second = judged(Kind.FORBIDDEN, retry_count=retry_count, forbidden_before=True)
    assert first == Verdict(Event.FAIL_DOWNLOAD, "forbidden", charged=False, waits=True)
    assert second == Verdict(Event.REFUSE, "forbidden", charged=False, waits=False)
    assert TRANSITIONS[second.event][1] is Status.NOT_ENTITLED


def test_a_403_of_the_target_is_never_about_entitlement() -> None:
    verdict = judged(Kind.FORBIDDEN, Side.TARGET, forbidden_before=True)
    assert verdict == Verdict(Event.FAIL_UPLOAD, "forbidden", charged=True, waits=True)


def test_another_failure_after_a_403_is_an_ordinary_one() -> None:
    assert judged(Kind.STALLED, forbidden_before=True).event is Event.FAIL_DOWNLOAD


@pytest.mark.parametrize("made_progress", [False, True])
def test_what_no_retry_cures_parks_the_file_at_once(made_progress: bool) -> None:
    verdict = judged(Kind.UNSUPPORTED, Side.TARGET, made_progress=made_progress)
    assert (verdict.event, verdict.reason, verdict.waits) == (Event.PARK, "unsupported", False)


def test_what_no_retry_cures_is_charged_to_nobody_where_the_side_answers_it_to_all() -> None:
    verdict = judged(Kind.UNSUPPORTED, outage=True)
    assert verdict == Verdict(Event.FAIL_DOWNLOAD, "unsupported", charged=False, waits=True)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("retry_count", [0, 2])
def test_a_strangers_answer_is_never_charged_and_parks_only_when_it_is_no_longer_doubted(
    side: Side, retry_count: int
) -> None:
    waiting = Verdict(FAILED[side], "bad_answer", charged=False, waits=True)
    for facts in ({"outage": True}, {"doubted": True}):
        assert judged(Kind.BAD_ANSWER, side, retry_count=retry_count, **facts) == waiting
    parked = Verdict(Event.PARK, "bad_answer", charged=False, waits=False)
    assert judged(Kind.BAD_ANSWER, side, retry_count=retry_count) == parked


@pytest.mark.parametrize("kind", [Kind.FORBIDDEN, Kind.NOT_FOUND])
def test_a_refusal_that_there_is_reason_to_doubt_waits_uncharged(kind: Kind) -> None:
    verdict = judged(kind, retry_count=2, forbidden_before=True, doubted=True)
    assert verdict == Verdict(Event.FAIL_DOWNLOAD, str(kind), charged=False, waits=True)


@pytest.mark.parametrize("max_retries", [0, 1, 5])
def test_the_number_of_retries_is_a_setting(max_retries: int) -> None:
    events = [
        judged(Kind.STALLED, retry_count=count, max_retries=max_retries).event for count in range(max_retries + 1)
    ]
    assert events == [Event.FAIL_DOWNLOAD] * max_retries + [Event.PARK]


def test_ancestor_a_file_not_yet_published_is_not_parked_for_ever_at_once() -> None:
    assert judged(Kind.FORBIDDEN).event is Event.FAIL_DOWNLOAD
    assert judged(Kind.NOT_FOUND).event is Event.FAIL_DOWNLOAD


@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.sampled_from(Side), st.booleans(), st.booleans(), st.booleans()),
        max_size=30,
    ),
    st.integers(0, 4),
)
def test_a_file_is_parked_by_one_charge_too_many_a_refusal_or_answers_that_are_believed_and_by_nothing_else(
    life: list[tuple[Kind, Side, bool, bool, bool]], max_retries: int
) -> None:
    charges, forbidden_before = 0, False
    for kind, side, made_progress, outage, doubted in life:
        verdict = judged(
            kind,
            side,
            retry_count=charges,
            max_retries=max_retries,
            made_progress=made_progress,
            outage=outage,
            forbidden_before=forbidden_before,
            doubted=doubted,
        )
        charges += verdict.charged
        if verdict.event is Event.REFUSE:
            assert forbidden_before
            assert not doubted
        if verdict.event is Event.PARK:
            settled = kind is Kind.BAD_ANSWER and not (doubted or outage or made_progress)
            assert settled or kind in INCURABLE or charges == max_retries + 1
        if verdict.event in {Event.PARK, Event.REFUSE}:
            return
        assert charges <= max_retries
        assert verdict.waits is (verdict.event is not Event.RELEASE)
        forbidden_before = kind is Kind.FORBIDDEN and side is Side.SOURCE
