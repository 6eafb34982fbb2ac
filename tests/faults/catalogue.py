"""Every fault at every step: what the vendors document, what users met, and what the peers are known to fail at.

A case is a scene (what was there before), a fault, and how long it lasts. ``once`` must heal by itself within the run;
``always`` lasts until somebody cures it, and nothing may be wrong meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from polyb2.ledger.database import Row
from polyb2.sandbox import Answer, Call, Cut, Drip, Fault, FlipBody, FlipStored, Reset, Shape, Stall
from polyb2.sandbox.exchange import Reply
from polyb2.sandbox.faults import Action
from polyb2.sandbox.server import SandboxServer
from tests.faults.world import LARGE, SMALL, Scene, World, must


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong.

    Attributes:
        step: where.
        fault: what.
        lasts: ``once`` or ``always``.
        arm: puts it into the world, just before the run.
        scene: what happened before.
        heals: the run itself must end with every file completed.
        selected: the run also lists (``sync``).
    """

    step: str
    fault: str
    lasts: str
    arm: Callable[[World], object]
    scene: Scene
    heals: bool = False
    selected: bool = False

    @property
    def name(self) -> str:
        return f"{self.step}: {self.fault}, {self.lasts}"


# -- scenes -------------------------------------------------------------------------------------------------------------


async def nothing(_world: World) -> None:
    """Not even a listing."""


async def queued(world: World) -> None:
    """Three files wait."""
    await world.discover()


async def half_sent(world: World) -> None:
    """An attempt at the large file left two parts and an open upload."""
    await world.discover()
    fault = world.box.target.inject(Fault("upload_part", Answer(500, "InternalError"), key=LARGE, part=3, times=0))
    row = await _until_large_was_tried(world)
    fault.times = -1
    must((row["status"], row["parts_done"]) == ("failed_upload", 2), "the scene is not what it should be")


async def _until_large_was_tried(world: World) -> Row:
    """One claim after the other, one part after the other, until it was the large file's turn."""
    world.settings = {"polyb2_part_tries": 1, "polyb2_concurrency": 1, "polyb2_retry_base": 3.0}
    row = await world.row(LARGE)
    while not row["attempt"]:
        await world.run(limit=1)
        row = await world.row(LARGE)
    world.settings = {}
    await world.make_due()
    return row


async def superseded(world: World) -> None:
    """As half sent, and then the source replaced the file: an upload waits for its abort."""
    await half_sent(world)
    world.replace(LARGE)
    await world.discover()


async def landed(world: World) -> None:
    """PUTs and a Complete took place, and all their answers were lost."""
    await world.discover()
    lost = [
        world.box.target.inject(Fault(operation, Reset("after"), times=0)) for operation in ("put", "complete", "head")
    ]
    row = await _until_large_was_tried(world)
    for fault in lost:
        fault.times = -1
    must(
        (row["status"], world.stored(LARGE) is not None) == ("failed_upload", True),
        "the scene is not what it should be",
    )


# -- faults -------------------------------------------------------------------------------------------------------------


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


def _soon() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)


ANSWERS: dict[str, Action] = {
    "500": Answer(500, "InternalError", "Please retry your upload"),
    "503 no tomes": Answer(503, "ServiceUnavailable", "no tomes available"),
    "503 with Retry-After": Answer(503, "SlowDown", headers={"Retry-After": "1"}),
    "503 with a date to retry after": Answer(503, "SlowDown", headers={"Retry-After": _soon()}),
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


def void(_value: object) -> None:
    """A result that nobody wants."""


def catalogue() -> list[Case]:
    """All cases, in a stable order."""
    cases = [
        *_requests("range GET", "source", "get", queued, ANSWERS | REFUSALS | BODIES, key=LARGE),
        *_requests("whole GET", "source", "get", queued, ANSWERS | REFUSALS | BODIES, key=SMALL),
        *_ranges(),
        *_requests("PUT", "target", "put", queued, ANSWERS | REFUSALS | SENT, key=SMALL),
        *_requests("Create", "target", "create", queued, ANSWERS | REFUSALS | _took_place()),
        *_requests("UploadPart", "target", "upload_part", queued, ANSWERS | REFUSALS | SENT, part=1),
        *_requests("a later UploadPart", "target", "upload_part", queued, ANSWERS | SENT, part=2),
        *_requests("Complete", "target", "complete", queued, ANSWERS | REFUSALS | _took_place()),
        *_requests("ListParts", "target", "list_parts", half_sent, ANSWERS | REFUSALS),
        *_requests("HEAD of the target", "target", "head", half_sent, ANSWERS | REFUSALS),
        *_requests("HEAD after a lost answer", "target", "head", landed, ANSWERS | REFUSALS),
        *_requests("Abort", "target", "abort", superseded, ANSWERS | REFUSALS | _took_place()),
        *_requests("ListMultipartUploads", "target", "list_uploads", half_sent, ANSWERS | REFUSALS),
        *_requests("HEAD of the source", "source", "head", queued, ANSWERS | REFUSALS, key=LARGE),
        *_requests("list of the source", "source", "list", nothing, ANSWERS | REFUSALS, selected=True),
        *_requests("list of the target", "target", "list", nothing, ANSWERS | REFUSALS, selected=True),
        *_replaced(),
        *_behind_our_back(),
        *_outside(),
    ]
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), "two cases have one name"
    return cases


def _took_place() -> dict[str, Action]:
    return {"500 though it took place": Answer(500, "InternalError", took_place=True)}


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
                _server(world, side).inject(Fault(operation, action, key=key, part=part, times=times))

            heals = lasts == "once" and fault not in _NEVER_HEAL
            yield Case(step, fault, lasts, arm, scene, heals, selected)


def _server(world: World, side: str) -> SandboxServer:
    return world.box.source if side == "source" else world.box.target


def _ranges() -> Iterator[Case]:
    bends = {
        "200 instead of 206": _status(200),
        "wrong Content-Range": _header("Content-Range", "bytes 0-9/99"),
        "no Content-Range": Shape(lambda reply: void(reply.headers.pop("Content-Range", None))),
        "the range before": _header("Content-Range", "bytes 0-5242879/5242880"),
    }
    yield from _requests("range GET", "source", "get", queued, bends, key=LARGE)


def _replaced() -> Iterator[Case]:
    """The source replaces a file at some moment; with If-Match honoured, and ignored."""
    moments = {
        "between list and GET": ("source", "get", 0, "before"),
        "between two parts": ("source", "get", 1, "before"),
        "while a part is on its way": ("target", "upload_part", 1, "before"),
        "before Complete": ("target", "complete", 0, "before"),
        "after Complete": ("target", "complete", 0, "after"),
    }
    for key, what in ((LARGE, "large"), (SMALL, "small")):
        for fault, (side, operation, skip, when) in moments.items():
            if key == SMALL and (skip or side == "target"):
                continue
            for honours in (True, False):

                def arm(
                    world: World,
                    key: str = key,
                    side: str = side,
                    operation: str = operation,
                    skip: int = skip,
                    when: str = when,
                    honours: bool = honours,
                ) -> None:
                    world.box.source.honours_if_match = honours
                    call = Call(lambda: world.replace(key), "before" if when == "before" else "after")
                    _server(world, side).inject(Fault(operation, call, key=key, skip=skip))

                ignored = "" if honours else ", If-Match ignored"
                yield Case("source", f"replaces the {what} file {fault}{ignored}", "once", arm, queued)


def _behind_our_back() -> Iterator[Case]:
    def drop(world: World) -> None:
        for upload in world.box.target.open_uploads():
            world.box.target.drop_upload(upload.upload_id)

    for operation, part in (("upload_part", 1), ("upload_part", 3), ("complete", None)):
        for lasts, times in (("once", 1), ("always", 0)):

            def arm(world: World, operation: str = operation, part: int | None = part, times: int = times) -> None:
                call = Call(lambda: drop(world))
                world.box.target.inject(Fault(operation, call, part=part, times=times))

            what = f"aborted behind our back at {operation} {part or ''}".strip()
            yield Case("upload", what, lasts, arm, queued, heals=lasts == "once")


def _outside() -> Iterator[Case]:
    """A whole side is away, or refuses everything."""

    def revoke(side: str) -> Callable[[World], None]:
        def arm(world: World) -> None:
            _server(world, side).keys_revoked = True

        return arm

    def clock(side: str, hours: float) -> Callable[[World], None]:
        def arm(world: World) -> None:
            _server(world, side).clock_offset_s = hours * 3600

        return arm

    def cap(world: World) -> None:
        world.box.target.cap_exceeded = True

    for side in ("source", "target"):
        yield Case(side, "keys revoked", "always", revoke(side), queued)
        yield Case(side, "clock an hour ahead", "always", clock(side, 1), queued)
        yield Case(side, "clock an hour behind", "always", clock(side, -1), queued)
        for fault, action in {
            "throttles for ever": Answer(503, "SlowDown"),
            "resets every connection": Reset("before"),
            "answers nothing": Stall(),
            "is a proxy's error page": Answer(502, html=True),
        }.items():

            def arm(world: World, side: str = side, action: Action = action) -> None:
                _server(world, side).inject(Fault("*", action, times=0))

            yield Case(side, fault, "always", arm, queued)

        def soon_over(world: World, side: str = side) -> None:
            _server(world, side).inject(Fault("*", Reset("before"), times=12))

        yield Case(side, "is away for a while", "once", soon_over, queued, heals=True)
    yield Case("target", "cap exceeded", "always", cap, queued)
    yield Case("target", "slow drip", "always", lambda world: world.box.source.inject(Fault("get", Drip(8 << 20), times=0)),
               queued, heals=True)  # fmt: skip
