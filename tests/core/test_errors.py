"""One table defines the meaning of every kind of error; the contract's sentences about it are checked row by row."""

from __future__ import annotations

import pytest

from polyb2.core.errors import (
    HANDLING,
    AccountStoppedError,
    Kind,
    LeaseLostError,
    LedgerBusyError,
    Origin,
    Polyb2Error,
    RemoteError,
    Scope,
    Side,
    UnexpectedError,
    UsageError,
)


def test_every_kind_has_its_handling_and_advice() -> None:
    assert set(HANDLING) == set(Kind)
    assert all(len(handling.advice.split()) >= 3 for handling in HANDLING.values())


@pytest.mark.parametrize(
    ("scope", "kinds"),
    [
        (Scope.OUTAGE, {Kind.UNREACHABLE, Kind.NO_OPEN_FILES, Kind.CAP_EXCEEDED, Kind.BAD_ANSWER}),
        (Scope.ACCOUNT, {Kind.KEYS_REFUSED, Kind.NOT_PERMITTED, Kind.MISCONFIGURED, Kind.CLOCK_SKEW}),
    ],
)
def test_only_these_kinds_reach_beyond_the_file(scope: Scope, kinds: set[Kind]) -> None:
    assert {kind for kind, handling in HANDLING.items() if handling.scope is scope} == kinds


def test_only_what_is_not_offered_and_an_impossible_size_are_cured_by_no_retry() -> None:
    assert {kind for kind, handling in HANDLING.items() if not handling.cured_by_retry} == {
        Kind.UNSUPPORTED,
        Kind.TOO_LARGE,
    }


@pytest.mark.parametrize(
    "kind", [Kind.SERVER_ERROR, Kind.THROTTLED, Kind.CONNECTION_LOST, Kind.STALLED, Kind.TRUNCATED]
)
def test_routine_trouble_has_all_the_configured_tries(kind: Kind) -> None:
    assert HANDLING[kind].tries is None


@pytest.mark.parametrize("kind", [Kind.KEYS_REFUSED, Kind.CLOCK_SKEW])
def test_a_refused_signature_is_made_again_once(kind: Kind) -> None:
    assert HANDLING[kind].tries == 2


@pytest.mark.parametrize(
    "kind", [Kind.FORBIDDEN, Kind.CAP_EXCEEDED, Kind.NOT_PERMITTED, Kind.NO_SUCH_UPLOAD, Kind.CHANGED, Kind.UNSUPPORTED]
)
def test_what_asking_again_cannot_change_is_asked_once(kind: Kind) -> None:
    assert HANDLING[kind].tries == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Polyb2Error("x"), 1),
        (LedgerBusyError("x"), 1),
        (LeaseLostError("x"), 1),
        (UsageError("x"), 2),
        (AccountStoppedError("x"), 4),
        (RemoteError(Side.SOURCE, Kind.STALLED, "x"), 4),
    ],
)
def test_an_unhandled_error_ends_the_command_with_the_contracts_code(error: Polyb2Error, code: int) -> None:
    assert error.exit_code == code


@pytest.mark.parametrize("kind", Kind)
def test_a_remote_error_says_whose_it_is_what_happened_and_what_to_do(kind: Kind) -> None:
    error = RemoteError(Side.TARGET, kind, "put was answered 503", code="SlowDown")
    assert str(error) == f"target: put was answered 503 (SlowDown); {error.advice}"
    assert "()" not in str(RemoteError(Side.SOURCE, kind, "it stalled"))


@pytest.mark.parametrize(
    ("side", "kind", "setting"),
    [
        (Side.SOURCE, Kind.KEYS_REFUSED, "POLYGON_S3_ACCESS_KEY_ID"),
        (Side.TARGET, Kind.KEYS_REFUSED, "B2_KEY_ID"),
        (Side.SOURCE, Kind.MISCONFIGURED, "POLYGON_S3_BUCKET"),
        (Side.TARGET, Kind.MISCONFIGURED, "B2_BUCKET_NAME"),
        (Side.TARGET, Kind.NOT_PERMITTED, "B2_KEY_ID"),
        (Side.TARGET, Kind.FORBIDDEN, "readFiles"),
        (Side.SOURCE, Kind.BAD_ANSWER, "POLYGON_S3_ENDPOINT_URL"),
        (Side.TARGET, Kind.BAD_ANSWER, "B2_ENDPOINT_URL"),
        (Side.TARGET, Kind.STALLED, "HTTPS_PROXY"),
        (Side.TARGET, Kind.NO_SUCH_UPLOAD, "lifecycle rule"),
        (Side.TARGET, Kind.NOT_FOUND, "polyb2 retry"),
    ],
)
def test_the_advice_names_what_to_look_at_on_the_side_that_answered(side: Side, kind: Kind, setting: str) -> None:
    assert setting in RemoteError(side, kind, "list was answered 403").advice


def test_without_words_of_its_own_the_advice_is_that_of_the_kind() -> None:
    assert RemoteError(Side.TARGET, Kind.STALLED, "no byte").advice == HANDLING[Kind.STALLED].advice


@pytest.mark.parametrize("kind", Kind)
def test_a_strangers_answer_reaches_the_side_and_nothing_but_the_side(kind: Kind) -> None:
    error = RemoteError(Side.SOURCE, kind, "get was answered 404", origin=Origin.INTERMEDIARY)
    assert (error.handling.scope, error.by_intermediary) == (Scope.OUTAGE, True)


def test_an_error_of_our_own_is_of_neither_side_and_says_where_it_was_raised() -> None:
    with pytest.raises(KeyError) as caught:
        dict[str, int]()["secret"]
    error = UnexpectedError(caught.value)
    assert error.kind is Kind.INTERNAL
    assert str(error).startswith("unexpected KeyError in polyb2 itself (test_errors.py:")
    assert "please report" in str(error)
    assert "secret" not in str(error)
    assert "target" not in str(error)
