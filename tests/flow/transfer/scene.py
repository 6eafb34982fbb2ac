"""An attempt between a source, a target and a ledger that are plain objects: protocols, no sockets, virtual time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from polyb2.core.errors import Kind, LedgerError, RemoteError, Side
from polyb2.core.integrity import ProofMark
from polyb2.core.parts import PartPlan
from polyb2.core.records import (
    Claim,
    OpenUpload,
    PartProof,
    Receipt,
    Revision,
    StoredObject,
    StoredPart,
    Upload,
    UploadState,
)
from polyb2.core.retry import RequestPolicy
from polyb2.core.stamp import Stamp
from polyb2.flow.mirror import Mirror, PartEtags
from polyb2.flow.run.slots import Slots
from polyb2.flow.transfer.attempt import Attempt
from polyb2.meters import Meters
from polyb2.remote.limiter import Bandwidth

KEY = "us_stocks_sip/trades_v1/2024/01/2024-01-02.csv.gz"
SIZE = 11_000_000
PLAN = PartPlan(SIZE, 5 << 20)
UPLOAD = Upload(7, 1, KEY, "an upload", "a token", PLAN, PartProof.PARTS, UploadState.OPEN)


def lost(kind: Kind = Kind.CONNECTION_LOST) -> RemoteError:
    return RemoteError(Side.TARGET, kind, "complete: the connection was lost")


@dataclass
class Guard:
    side: Side
    policy: RequestPolicy = field(default_factory=lambda: RequestPolicy(tries=4))
    meters: object = None
    per_second: float | None = None


@dataclass
class Bucket:
    """A target.

    Attributes:
        answers: to Complete, one after the other: an error, or None.
        takes_effect: a Complete that fails has published all the same.
        unseen: the number of HEADs that do not show the object yet.
        survives: the number of aborts that leave the upload in place.
        asked: requests by name.
        order: requests, and the writes of the ledger, in their order.
    """

    guard: Guard = field(default_factory=lambda: Guard(Side.TARGET))
    prefix: str = ""
    answers: deque[RemoteError | None] = field(default_factory=lambda: deque([None]))
    takes_effect: bool = False
    unseen: int = 0
    survives: int = 0
    uploads: set[str] = field(default_factory=lambda: {UPLOAD.upload_id})
    stored: StoredObject | None = None
    asked: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)

    def note(self, name: str) -> None:
        self.asked[name] += 1
        self.order.append(name)

    async def complete(self, upload: Upload, receipts: list[Receipt]) -> None:
        del receipts
        self.note("complete")
        error = self.answers.popleft() if self.answers else None
        if error is None or self.takes_effect:
            self.uploads.discard(upload.upload_id)
            self.stored = made_by(upload.token)
        if error is not None:
            raise error

    async def head(self, dest_key: str) -> StoredObject | None:
        assert dest_key == KEY
        self.note("head")
        if self.unseen and self.stored is not None:
            self.unseen -= 1
            return None
        return self.stored

    async def list_parts(self, upload: Upload) -> tuple[StoredPart, ...] | None:
        self.note("list_parts")
        return () if upload.upload_id in self.uploads else None

    async def abort(self, dest_key: str, upload_id: str) -> None:
        assert dest_key == KEY
        self.note("abort")
        if self.survives:
            self.survives -= 1
        else:
            self.uploads.discard(upload_id)

    async def open_uploads(self, dest_prefix: str) -> AsyncIterator[OpenUpload]:
        for upload_id in sorted(self.uploads):
            yield OpenUpload(dest_prefix, upload_id, 0)
            yield OpenUpload(f"{dest_prefix}.more", f"{upload_id} of a neighbour", 0)


@dataclass
class Books:
    """The upload operations of a ledger, and its facts; ``written`` has its writes, in order."""

    abandoned: list[Upload] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    is_broken: bool = False

    async def note_completing(self, claim: Claim, upload: Upload) -> None:
        del claim, upload
        self.written.append("completing")

    async def drop_receipts(self, claim: Claim, upload: Upload, numbers: list[int]) -> None:
        del claim, upload
        self.written.append(f"dropped {numbers}")

    async def abandon_upload(self, claim: Claim) -> None:
        del claim
        self.written.append("abandoned")
        self.abandoned.append(UPLOAD)

    async def abandoned_uploads(self, file_id: int) -> list[Upload]:
        del file_id
        return list(self.abandoned)

    async def forget_upload(self, upload: Upload) -> None:
        self.written.append("forgotten")
        self.abandoned.remove(upload)

    async def remember(self, name: str, value: str | None) -> None:
        if self.is_broken:
            raise LedgerError("the disk is full")
        self.written.append(f"{name}: {value}")

    async def all_abandoned_uploads(self) -> AsyncIterator[Upload]:
        for upload in list(self.abandoned):
            yield upload


class Scene:
    """An attempt whose upload has all its parts."""

    def __init__(self) -> None:
        self.bucket = Bucket()
        self.books = Books(written=self.bucket.order)
        source = type("Nothing", (), {"guard": Guard(Side.SOURCE)})()
        books = cast("Any", self.books)
        etags = PartEtags(books, are_opaque=False)
        self.mirror = Mirror(source, cast("Any", self.bucket), books, etags, Slots(4), Bandwidth(), Meters())

    async def attempt(self) -> Attempt:
        revision = Revision(1, "e" * 32, SIZE, 0)
        claim = Claim(1, KEY, "us_stocks_sip/trades_v1", revision, 1, 0, 1, UPLOAD.token, upload=UPLOAD)
        attempt = Attempt(self.mirror, claim, await self.mirror.slots.for_claim())
        attempt.upload = UPLOAD
        attempt.receipts |= {
            number: Receipt(PLAN.part(number), "0" * 32, "0" * 32) for number in range(1, PLAN.count + 1)
        }
        return attempt


def made_by(token: str, **changes: object) -> StoredObject:
    """The object of an attempt with this token."""
    stamp = Stamp(token, "e" * 32, ProofMark.BEFORE, "0.1.0", 0, 0)
    return replace(StoredObject(SIZE, "f" * 32, "a version", stamp), **cast("Any", changes))
