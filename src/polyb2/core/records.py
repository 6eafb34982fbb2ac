"""The records that pass between the layers: what is listed, claimed, sent and found.

All are immutable; times are epoch milliseconds, sizes bytes, ETags without quotes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from polyb2.core.parts import Part, PartPlan
from polyb2.core.stamp import Stamp
from polyb2.core.status import Status


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    key: str
    size: int
    etag: str
    last_modified_ms: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A stored version of a key in the target."""

    size: int
    etag: str
    version_id: str | None
    stamp: Stamp = field(default_factory=Stamp)


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An unfinished multipart upload in the target."""

    key: str
    upload_id: str
    initiated_ms: int


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part as ListParts shows it."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of a stored part: its range, the target's ETag, and our MD5 where we hashed."""

    part: Part
    etag: str
    md5: str | None


class UploadState(StrEnum):
    """``completing`` is noted before Complete is sent; ``abandoned`` is to be aborted; ``done`` is published."""

    OPEN = "open"
    COMPLETING = "completing"
    ABANDONED = "abandoned"
    DONE = "done"


class PartProof(StrEnum):
    """The rule by which the parts of an upload are proven, in the words of ``Verification``.

    It is stored with the upload: an attempt that takes the upload over must prove it by the same rule.
    """

    ETAG = "etag"
    PARTS = "parts"
    READBACK = "readback"


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that the ledger owns; ``row`` is its ledger id, ``upload_id`` the target's."""

    row: int
    revision: int
    dest_key: str
    upload_id: str
    token: str
    plan: PartPlan
    proof: PartProof
    state: UploadState


@dataclass(frozen=True, slots=True)
class Revision:
    """One content of a file."""

    number: int
    etag: str
    size: int
    last_modified_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to a row.

    Attributes:
        file_id: the ledger's row.
        attempt: the fencing token (not :attr:`token`): every ledger write of the claim must match it.
        worker: the ledger's row of the worker's lease.
        token: the mark of this attempt's single PUT or new upload.
        earlier_tokens: marks of earlier attempts at the same revision, by which their results are recognised.
        follows_completion: the attempt before this one completed the file, so that it left no upload behind.
        upload: the open upload of this revision, if one exists.
        receipts: of that upload.
        forbidden_before: the last attempt at this revision was answered 403.
    """

    file_id: int
    key: str
    dataset: str
    revision: Revision
    attempt: int
    retry_count: int
    worker: int
    token: str
    earlier_tokens: frozenset[str] = frozenset()
    follows_completion: bool = False
    upload: Upload | None = None
    receipts: tuple[Receipt, ...] = ()
    forbidden_before: bool = False

    @property
    def is_first(self) -> bool:
        return self.attempt == 1


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The target's copy after a proven transfer or an adoption."""

    etag: str
    version_id: str | None
    verification: str


@dataclass(frozen=True, slots=True)
class KnownFile:
    """The ledger's knowledge of a key, as far as discovery and verification need it."""

    file_id: int
    key: str
    status: Status
    reason: str | None
    size: int
    etag: str
    last_modified_ms: int
    mirrored_revision: int | None
    mirrored_etag: str | None
    mirrored_size: int | None
    dest_etag: str | None
    revision: int = 1
