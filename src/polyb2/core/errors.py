"""Every error that polyb2 raises, and what each means for a request, a file and the run.

Foreign exceptions become one of these at the edge (``remote/classify.py``); above it there are no others.
The table ``HANDLING`` says for each kind how often a request is retried, how far the error reaches, and if a retry can
cure it. ``core/verdict.py`` decides from it if the file is charged, and ``flow/run/breaker.py`` if the run pauses.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePath

from polyb2.core.exit_codes import ExitCode
from polyb2.core.scrub import one_line


class Side(StrEnum):
    """The service that an error is about."""

    SOURCE = "source"
    TARGET = "target"


class Origin(StrEnum):
    """The author of an answer, as far as it can be told."""

    SERVICE = "service"
    """The S3 service itself: an S3 error code, or the request id that it puts on each answer."""
    UNMARKED = "unmarked"
    """The service, most likely: an answer that has no body by its nature, and no request id either."""
    INTERMEDIARY = "intermediary"
    """An intermediary: a proxy, a captive portal, a maintenance page, a redirect."""


class Kind(StrEnum):
    """The class of a remote error; it is also the ``reason`` that a file's row shows."""

    UNREACHABLE = "unreachable"
    NO_OPEN_FILES = "no_open_files"
    """The limit of this machine was reached: no connection could be made."""
    CONNECTION_LOST = "connection_lost"
    STALLED = "stalled"
    TRUNCATED = "truncated"
    SERVER_ERROR = "server_error"
    THROTTLED = "throttled"
    BAD_ANSWER = "bad_answer"
    BAD_DIGEST = "bad_digest"
    CLOCK_SKEW = "clock_skew"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    NO_SUCH_UPLOAD = "no_such_upload"
    CHANGED = "changed"
    KEYS_REFUSED = "keys_refused"
    NOT_PERMITTED = "not_permitted"
    MISCONFIGURED = "misconfigured"
    CAP_EXCEEDED = "cap_exceeded"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"
    INCONSISTENT = "inconsistent"
    INTERNAL = "internal"
    MISMATCH = "mismatch"
    TOO_LARGE = "too_large"

    @property
    def contradicts(self) -> bool:
        """Tell if an answer is the service's own, as far as can be told, and contradicts the listing."""
        return self in {Kind.TRUNCATED, Kind.INCONSISTENT, Kind.CHANGED}


class Scope(StrEnum):
    """The reach of an error."""

    FILE = "file"
    """This file's attempt ends; a retry is charged unless the attempt got somewhere."""
    OUTAGE = "outage"
    """A whole side is away: the run pauses and probes, and nothing is charged."""
    ACCOUNT = "account"
    """Keys, capabilities: no attempt can succeed until a person acts."""


@dataclass(frozen=True, slots=True)
class Handling:
    """The treatment of a kind of error.

    Attributes:
        tries: how often one request is sent before this error ends its attempt; None: ``POLYB2_PART_TRIES`` times.
        scope: how far it reaches once the tries are used up.
        cured_by_retry: False parks the file at once.
        advice: what the user can do.
    """

    tries: int | None
    scope: Scope
    cured_by_retry: bool
    advice: str


_NETWORK = (
    "check the network between this machine and the endpoint, and the proxy if HTTPS_PROXY names one; a run continues by "
    "itself, run other commands again"
)
_INTERMEDIARY = (
    "this is not an answer of the service: check {}, the proxy (HTTPS_PROXY), and whether the network wants a login; "
    "a run continues by itself once the service answers"
)
HANDLING: dict[Kind, Handling] = {
    Kind.UNREACHABLE: Handling(
        3,
        Scope.OUTAGE,
        True,
        "check the endpoint URL, DNS, the network, a proxy if HTTPS_PROXY names one, and for TLS the certificate "
        "(SSL_CERT_FILE names another CA bundle)",
    ),
    Kind.NO_OPEN_FILES: Handling(
        3, Scope.OUTAGE, True, "raise the limit of open files (ulimit -n), or lower --concurrency"
    ),
    Kind.CONNECTION_LOST: Handling(None, Scope.FILE, True, _NETWORK),
    Kind.STALLED: Handling(None, Scope.FILE, True, _NETWORK + " (POLYB2_STALL_TIMEOUT sets the time-out)"),
    Kind.TRUNCATED: Handling(None, Scope.FILE, True, _NETWORK),
    Kind.SERVER_ERROR: Handling(None, Scope.FILE, True, "the service has trouble; a run continues by itself"),
    Kind.THROTTLED: Handling(None, Scope.FILE, True, "lower --concurrency, POLYB2_SOURCE_RPS or POLYB2_B2_RPS"),
    Kind.BAD_ANSWER: Handling(3, Scope.OUTAGE, True, _INTERMEDIARY.format("the endpoint URL")),
    Kind.BAD_DIGEST: Handling(1, Scope.FILE, True, "data was corrupted in transit; polyb2 reads it again"),
    Kind.CLOCK_SKEW: Handling(2, Scope.ACCOUNT, True, "set this machine's clock (NTP)"),
    Kind.FORBIDDEN: Handling(
        1,
        Scope.FILE,
        True,
        "your plan may not have this dataset or date: see polyb2 datasets --probe; polyb2 retry --status not_entitled asks "
        "again",
    ),
    Kind.NOT_FOUND: Handling(
        1,
        Scope.FILE,
        True,
        "it is not there any more; polyb2 tries again, and if the file is parked, polyb2 retry sends it from the start",
    ),
    Kind.NO_SUCH_UPLOAD: Handling(
        1,
        Scope.FILE,
        True,
        "polyb2 starts the upload again a few times; if the file is parked, see that no other program or lifecycle rule ends "
        "unfinished uploads of the bucket, then polyb2 retry",
    ),
    Kind.CHANGED: Handling(1, Scope.FILE, True, "the source replaced the file; polyb2 takes the newest revision"),
    Kind.KEYS_REFUSED: Handling(2, Scope.ACCOUNT, True, "check the access key and its secret"),
    Kind.NOT_PERMITTED: Handling(
        1,
        Scope.ACCOUNT,
        True,
        "give the key of B2_KEY_ID listBuckets, listFiles, readFiles, writeFiles and deleteFiles on the bucket",
    ),
    Kind.MISCONFIGURED: Handling(1, Scope.ACCOUNT, True, "check the endpoint URL, the bucket name and B2_REGION"),
    Kind.CAP_EXCEEDED: Handling(1, Scope.OUTAGE, True, "raise the cap on Backblaze's Caps & Alerts page"),
    Kind.REFUSED: Handling(
        3,
        Scope.FILE,
        True,
        "polyb2 asks again a few times; if the file is parked, remove the cause that the service names, then polyb2 retry",
    ),
    Kind.UNSUPPORTED: Handling(
        1, Scope.FILE, False, "not retried automatically: once the cause is gone, polyb2 retry sends it"
    ),
    Kind.INCONSISTENT: Handling(
        3,
        Scope.FILE,
        True,
        "the service's answers contradict each other; polyb2 asks again, and if the file is parked, report it to the service",
    ),
    Kind.INTERNAL: Handling(
        1, Scope.FILE, True, "please report this error of polyb2; LOG_LEVEL=DEBUG logs its traceback"
    ),
    Kind.TOO_LARGE: Handling(
        1,
        Scope.FILE,
        False,
        "not retried automatically: such a size is most likely an error in the source's listing; once the source lists "
        "another size, polyb2 discover queues the file",
    ),
    Kind.MISMATCH: Handling(1, Scope.FILE, True, "what arrived is not what was sent; polyb2 starts over"),
}
_ADVICE: dict[tuple[Side, Kind], str] = {
    (Side.SOURCE, Kind.BAD_ANSWER): _INTERMEDIARY.format("POLYGON_S3_ENDPOINT_URL"),
    (Side.TARGET, Kind.BAD_ANSWER): _INTERMEDIARY.format("B2_ENDPOINT_URL"),
    (Side.SOURCE, Kind.KEYS_REFUSED): (
        "check POLYGON_S3_ACCESS_KEY_ID and POLYGON_S3_SECRET_ACCESS_KEY: the flat-files keys of your dashboard, "
        "not the REST key"
    ),
    (Side.TARGET, Kind.KEYS_REFUSED): (
        "check B2_KEY_ID and B2_APPLICATION_KEY (an application key: the master key does not work here), and B2_REGION"
    ),
    (Side.SOURCE, Kind.MISCONFIGURED): "check POLYGON_S3_ENDPOINT_URL and POLYGON_S3_BUCKET",
    (Side.TARGET, Kind.MISCONFIGURED): "check B2_ENDPOINT_URL, B2_BUCKET_NAME and B2_REGION",
    (Side.TARGET, Kind.FORBIDDEN): "give the key of B2_KEY_ID readFiles and listBuckets on the bucket",
    (Side.SOURCE, Kind.THROTTLED): "lower --concurrency or POLYB2_SOURCE_RPS",
    (Side.TARGET, Kind.THROTTLED): "lower --concurrency or POLYB2_B2_RPS",
    (Side.SOURCE, Kind.NOT_FOUND): (
        "the source lists the file and does not give it yet; polyb2 asks again, and polyb2 retry does so at once"
    ),
}


class Polyb2Error(Exception):
    """Root of the tree; ``exit_code`` is the exit code of the command if the error is not handled."""

    exit_code = ExitCode.UNEXPECTED


class UsageError(Polyb2Error):
    """Wrong usage or configuration: the message says what to write instead."""

    exit_code = ExitCode.USAGE


class AccountStoppedError(Polyb2Error):
    """The account or the other side stops everything: keys, cap, or an outage past ``POLYB2_GIVE_UP``."""

    exit_code = ExitCode.STOPPED


class LedgerError(Polyb2Error):
    """The ledger cannot be read or written: disk full, read-only, an I/O error.

    Attributes:
        may_pass: waiting can cure it: space is freed, or the other process releases the ledger.
    """

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class LedgerBusyError(LedgerError):
    """Another process holds the ledger."""

    def __init__(self, message: str) -> None:
        super().__init__(message, may_pass=True)


class LedgerGoneError(LedgerError):
    """The ledger's files were removed, replaced or cut while they were open: nothing may be written any more."""


class LeaseLostError(Polyb2Error):
    """This worker's claim is no longer its own: stop, start no request, settle nothing."""


class RemoteError(Polyb2Error):
    """A failed request, or a missing answer, of the source or the target.

    Attributes:
        side: the side that failed.
        kind: its class; :attr:`handling` says what follows.
        message: what happened, without secrets or signed URLs.
        retry_after_s: what the service asked for, in seconds.
        code: the S3 error code or HTTP status, for people.
        origin: the author of the answer. An intermediary says nothing about a file: its answer is trouble of the side.
        advice: what the user can do, in the words of this side's settings.
    """

    exit_code = ExitCode.STOPPED

    def __init__(
        self,
        side: Side,
        kind: Kind,
        message: str,
        *,
        retry_after_s: float | None = None,
        code: str | None = None,
        origin: Origin = Origin.SERVICE,
        advice: str = "",
    ) -> None:
        # Foreign text becomes ours here: rows, logs, page and notifications get nothing else.
        self.message = one_line(message)
        super().__init__(side, kind, self.message)
        self.side = side
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.code = code and one_line(code)
        self.origin = origin
        self.advice = advice or _ADVICE.get((side, kind)) or HANDLING[kind].advice

    @property
    def handling(self) -> Handling:
        """The treatment of this error; an intermediary's answer is an outage of the side, no less and no more."""
        handling = HANDLING[self.kind]
        return replace(handling, scope=Scope.OUTAGE) if self.origin is Origin.INTERMEDIARY else handling

    @property
    def by_intermediary(self) -> bool:
        """Tell if an intermediary wrote the answer instead of the service."""
        return self.origin is Origin.INTERMEDIARY or self.kind is Kind.BAD_ANSWER

    @property
    def found(self) -> str:
        """A description of the error, with the service's code."""
        return f"{self.message} ({self.code})" if self.code else self.message

    def __str__(self) -> str:
        return f"{self.side}: {self.found}; {self.advice}"


class UnexpectedError(RemoteError):
    """An internal error of polyb2 within a transfer: of neither side, although a failed file has to name one."""

    def __init__(self, cause: Exception) -> None:
        steps = traceback.extract_tb(cause.__traceback__)
        place = f" ({PurePath(steps[-1].filename).name}:{steps[-1].lineno})" if steps else ""
        words = f"unexpected {type(cause).__name__} in polyb2 itself{place}"
        super().__init__(Side.TARGET, Kind.INTERNAL, words)

    def __str__(self) -> str:
        return f"{self.found}; {self.advice}"
