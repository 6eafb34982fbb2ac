"""Every fault at every step: what the vendors document, what users met, and what the peers are known to fail at.

A case is a scene (what was there before), a fault, and how long it lasts. ``once`` must heal by itself within the run;
``always`` lasts until somebody cures it, and nothing may be wrong meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from polyb2.sandbox import Answer, Cut, Fault, FlipBody, FlipStored, Reset, Shape, Stall
from polyb2.sandbox.exchange import Reply
from polyb2.sandbox.faults import Action
from tests.faults.books import ledger_cases
from tests.faults.clocks import clock_cases
from tests.faults.network import network_cases
from tests.faults.outside import outside_cases
from tests.faults.scenes import Case, half_sent, landed, nothing, queued, superseded
from tests.faults.world import LARGE, SMALL, Scene, World


def _status(status: int) -> Shape:
    def bend(reply: Reply) -> None:
        reply.status = status

    return Shape(bend)


def _header(name: str, value: str) -> Shape:
    def bend(reply: Reply) -> None:
        reply.headers[name] = value

    return Shape(bend)


def _extra(reply: Reply) -> None:
    reply.extra = b"more than was asked for"


def _garbage(reply: Reply) -> None:
    reply.body, reply.length = b"\x00<<not xml", 10


def _later() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


ANSWERS: dict[str, Action] = {
    "500": Answer(500, "InternalError", "Please retry your upload"),
    "503 no tomes": Answer(503, "ServiceUnavailable", "no tomes available"),
    "503 with Retry-After": Answer(503, "SlowDown", headers={"Retry-After": "1"}),
    "503 with a date to retry after": Answer(503, "SlowDown", headers={"Retry-After": _later()}),
    "503 unread": Answer(503, "ServiceUnavailable", read_body=False, close=True),
    "429": Answer(429, "TooManyRequests"),
    "408": Answer(408),
    "400 RequestTimeout": Answer(400, "RequestTimeout"),
    "400 body too small": Answer(400, "InvalidRequest", "The request body was too small"),
    "HTML of a proxy": Answer(502, html=True),
    "HTML with 200": Answer(200, html=True),
    "200 with an error": Answer(200, "InternalError", "in a 200"),
    "reset before": Reset("before"),
    "reset after the deed": Reset("after"),
    "no answer": Stall(),
    "garbage": Shape(_garbage),
}
REFUSALS: dict[str, Action] = {
    "403 AccessDenied": Answer(403, "AccessDenied"),
    "403 not entitled": Answer(403, "AccessDenied", "not entitled"),
    "403 cap": Answer(403, "AccessDenied", "Cannot upload files, storage cap exceeded. See the Caps & Alerts page"),
    "403 InvalidAccessKeyId": Answer(403, "InvalidAccessKeyId", "Malformed Access Key Id"),
    "403 SignatureDoesNotMatch": Answer(403, "SignatureDoesNotMatch"),
    "403 RequestTimeTooSkewed": Answer(403, "RequestTimeTooSkewed"),
    "403 without a body": Answer(403),
    "404": Answer(404, "NoSuchKey"),
    "404 NoSuchBucket": Answer(404, "NoSuchBucket"),
    "400 InvalidRequest": Answer(400, "InvalidRequest"),
    "301": Answer(301, "PermanentRedirect"),
}
BODIES: dict[str, Action] = {
    "reset in the body": Reset("middle", 1000),
    "early end, right length": Cut(1000),
    "early end, short length": Cut(1000, "short"),
    "early end, no length": Cut(1000, "none"),
    "extra bytes": Shape(_extra),
    "another ETag": _header("ETag", '"00000000000000000000000000000000"'),
    "stall in the body": Stall(1000),
    "flipped byte": FlipBody(700),
}
SENT: dict[str, Action] = {
    "reset in the body": Reset("middle", 1000),
    "stall while sending": Stall(reading=True),
    "flipped byte": FlipStored(),
    "early answer": Answer(500, "InternalError", read_body=False, close=True),
    "500 though it took place": Answer(500, "InternalError", took_place=True),
    "another ETag": _header("ETag", '"00000000000000000000000000000000"'),
    "no ETag": Shape(lambda reply: void(reply.headers.pop("ETag", None))),
}


CUTS: dict[str, Action] = {
    "early end, right length": Cut(60),
    "early end, short length": Cut(60, "short"),
    "early end, no length": Cut(60, "none"),
    "stall in the answer": Stall(60),
}


TOOK_PLACE: dict[str, Action] = {"500 though it took place": Answer(500, "InternalError", took_place=True)}
TWICE: dict[str, Action] = {"sent twice by a proxy": Answer(404, "NoSuchUpload", took_place=True)}
"""The first request took place, and the answer to the second comes back."""


def void(_value: object) -> None:
    """A result that nobody wants."""


def catalogue() -> list[Case]:
    """All cases, in a stable order."""
    cases = [
        *_requests("range GET", "source", "get", queued, ANSWERS | REFUSALS | BODIES, key=LARGE),
        *_requests("whole GET", "source", "get", queued, ANSWERS | REFUSALS | BODIES, key=SMALL),
        *_ranges(),
        *_requests("PUT", "target", "put", queued, ANSWERS | REFUSALS | SENT, key=SMALL),
        *_requests("Create", "target", "create", queued, ANSWERS | REFUSALS | TOOK_PLACE),
        *_requests("UploadPart", "target", "upload_part", queued, ANSWERS | REFUSALS | SENT, part=1),
        *_requests("a later UploadPart", "target", "upload_part", queued, ANSWERS | SENT, part=2),
        *_requests("Complete", "target", "complete", queued, ANSWERS | REFUSALS | TOOK_PLACE | TWICE),
        *_requests("ListParts", "target", "list_parts", half_sent, ANSWERS | REFUSALS),
        *_requests("HEAD of the target", "target", "head", half_sent, ANSWERS | REFUSALS),
        *_requests("HEAD after a lost answer", "target", "head", landed, ANSWERS | REFUSALS),
        *_requests("Abort", "target", "abort", superseded, ANSWERS | REFUSALS | TOOK_PLACE | TWICE),
        *_requests("ListMultipartUploads", "target", "list_uploads", half_sent, ANSWERS | REFUSALS),
        *_requests("HEAD of the source", "source", "head", queued, ANSWERS | REFUSALS, key=LARGE),
        *_requests("list of the source", "source", "list", nothing, ANSWERS | REFUSALS | CUTS, selected=True),
        *_requests("list of the target", "target", "list", nothing, ANSWERS | REFUSALS | CUTS, selected=True),
        *_requests("answer to Create", "target", "create", queued, CUTS),
        *_requests("answer to Complete", "target", "complete", queued, CUTS),
        *_requests("answer to ListParts", "target", "list_parts", half_sent, CUTS),
        *_requests("answer to ListMultipartUploads", "target", "list_uploads", half_sent, CUTS),
        *outside_cases(),
        *network_cases(),
        *ledger_cases(),
        *clock_cases(),
    ]
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), "two cases have one name"
    return cases


_NEVER_HEAL = set(REFUSALS)
"""Answers that a run may rightly take for an end, even if they came once."""


def _requests(
    step: str,
    side: str,
    operation: str,
    scene: Scene,
    actions: Mapping[str, Action],
    *,
    key: str = "*",
    part: int | None = None,
    selected: bool = False,
) -> Iterator[Case]:
    for fault, action in actions.items():
        for lasts, times in (("once", 1), ("always", 0)):
            if isinstance(action, FlipBody) and lasts == "always":
                continue  # a source that always sends these bytes has these bytes

            def arm(world: World, action: Action = action, times: int = times) -> None:
                world.server(side).inject(Fault(operation, action, key=key, part=part, times=times))

            heals = lasts == "once" and fault not in _NEVER_HEAL
            yield Case(step, fault, lasts, arm, scene, heals, selected)


def _ranges() -> Iterator[Case]:
    bends = {
        "200 instead of 206": _status(200),
        "wrong Content-Range": _header("Content-Range", "bytes 0-9/99"),
        "no Content-Range": Shape(lambda reply: void(reply.headers.pop("Content-Range", None))),
        "the range before": _header("Content-Range", "bytes 0-5242879/5242880"),
    }
    yield from _requests("range GET", "source", "get", queued, bends, key=LARGE)
