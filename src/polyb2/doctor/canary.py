"""An object that is sent in every way that files are, to find out the keys' rights and the behaviour of the service.

It lies under a prefix of its own that no flat file has, and is removed version by version, whatever happens. No object is
stored before it is known that the key may delete it again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from polyb2 import __version__
from polyb2.core.errors import Kind, RemoteError, Scope, Side
from polyb2.core.integrity import ProofMark, composite
from polyb2.core.parts import PART_BYTES_MIN, Part, PartPlan, single_part
from polyb2.core.records import PartProof, Receipt, StoredObject, Upload, UploadState
from polyb2.core.stamp import Stamp
from polyb2.doctor.checks import FailedError, Notes
from polyb2.doctor.leavings import Leavings
from polyb2.remote.b2 import Target
from polyb2.remote.limiter import Bandwidth
from polyb2.remote.relay import Relay

FOLDER = ".polyb2-doctor/"
_ETAG = 'a b"ö%20=?-2'
"""A source's ETag may be any text."""
_MODIFIED_MS = 1_700_000_000_250
_SIZE = PART_BYTES_MIN + 1000
_UNKNOWN_VERSION = "4_z000000000000000000000000_f0000000000000000_d20240101_m000000_c000_v0000000_t0000"


class Canary:
    """The canary, and everything of it that has to be removed.

    Attributes:
        leavings: the objects it wrote; to be removed at the end.
        etags_are_md5s: property of its parts' ETags; None until they were sent.
        may_delete: a deletion was tried and not refused, so that what is stored can be removed again.
    """

    def __init__(self, notes: Notes, target: Target) -> None:
        self.etags_are_md5s: bool | None = None
        self._notes = notes
        self._target = target
        self._key = f"{target.prefix}{FOLDER}{secrets.token_hex(8)}"
        self.may_delete = False
        self._stamp = Stamp(
            secrets.token_hex(16), _ETAG, ProofMark.BEFORE, __version__, _MODIFIED_MS, modified_ms=_MODIFIED_MS
        )
        self.leavings = Leavings(notes, target, self._key, self._stamp)

    async def ask_to_delete(self) -> None:
        """Try to delete a version that does not exist: only a refusal is evidence (OpenStack Swift answers 500)."""
        with self._notes.checking("delete", "deleteFiles"):
            try:
                await self._target.delete_version(self._key, _UNKNOWN_VERSION)
            except RemoteError as error:
                if error.handling.scope is not Scope.FILE:
                    raise
        self.may_delete = True

    # -- one PUT ------------------------------------------------------------------------------------------------------

    async def put(self) -> None:
        """One PUT, refused with a wrong MD5; HEAD by version; a range; the metadata."""
        body = secrets.token_bytes(1000)
        md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        with self._notes.checking("put", "writeFiles"):
            stored = await self._put(body, md5)
        self._notes.passed("put", "writeFiles is there")
        if stored.etag == md5:
            self._notes.passed("put_etag", "is the MD5 of the object")
        else:
            self._notes.doubtful(
                "put_etag",
                "is not the MD5 of the object",
                "nothing to do: every small file is read back, which takes time",
            )
        self.leavings.versions.append(stored.version_id)
        for check in (
            partial(self._put_with_wrong_md5, body),
            partial(self._look, stored.version_id, len(body)),
            partial(self._read, stored.version_id, body, md5),
        ):
            with suppress(FailedError):
                await check()

    async def _put(self, body: bytes, md5: str) -> StoredObject:
        target = self._target
        return await target.guard.tried(lambda: target.put(self._key, body, len(body), md5, self._stamp, fresh=True))

    async def _put_with_wrong_md5(self, body: bytes) -> None:
        with self._notes.checking("content_md5", "writeFiles"):
            try:
                self.leavings.versions.append((await self._put(body, "0" * 32)).version_id)
            except RemoteError as error:
                if error.kind is not Kind.BAD_DIGEST:
                    raise
                self._notes.passed("content_md5", "a body that differs from its Content-MD5 is refused")
                return
        words = "a body that differs from its Content-MD5 is accepted"
        self._notes.doubtful(
            "content_md5", words, "this is not Backblaze B2; the ETag is compared as well, so nothing is lost"
        )

    async def _look(self, version_id: str | None, size: int) -> None:
        if version_id is None:
            self._notes.doubtful(
                "versions", "objects get no version id", "use a bucket with versions: replaced files would be lost here"
            )
        with self._notes.checking("head", "readFiles"):
            stored = await self._target.head(self._key, version_id)
        if stored is None or stored.size != size:
            self._notes.failed("head", "HEAD does not show the object that was just stored", "run doctor again later")
            raise FailedError
        self._notes.passed("head", "HEAD by version shows the object")
        lost = self._stamp.changed(stored.stamp)
        if stored.stamp.token != self._stamp.token:
            words = "the object's metadata came back without our token, by which polyb2 knows its own work"
            self._notes.failed("metadata", words, "a proxy that drops headers may be in the way")
            raise FailedError
        if lost:
            words = f"came back changed: {', '.join(lost)}"
            self._notes.doubtful("metadata", words, "a proxy that drops headers with underscores may be in the way")
        else:
            self._notes.passed("metadata", "comes back as it was sent")

    async def _read(self, version_id: str | None, body: bytes, md5: str) -> None:
        with self._notes.checking("read", "readFiles"):
            data = await self._target.guard.tried(lambda: self._whole(version_id, len(body)))
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
            self._notes.failed("read", "what is read back is not what was stored", "do not use this endpoint")
            raise FailedError
        self._notes.passed("read", "readFiles is there")

    async def _whole(self, version_id: str | None, size: int) -> bytes:
        async with self._target.read(self._key, version_id, single_part(size), fresh=True) as incoming:
            return await Relay(incoming, size, Bandwidth(), Side.TARGET).collect()

    # -- multipart ----------------------------------------------------------------------------------------------------

    async def send_parts(self) -> None:
        """A multipart upload of two parts, completed twice; and one that is aborted."""
        upload = await self._create("create")
        receipts = await self._send(upload)
        with self._notes.checking("list_parts", "writeFiles"):
            listed = await self._target.list_parts(upload)
        if listed is None or [(item.number, item.etag) for item in listed] != [
            (item.part.number, item.etag) for item in receipts
        ]:
            self._notes.failed("list_parts", "ListParts does not show what was sent", "run doctor again later")
            raise FailedError
        self._notes.passed("list_parts", "shows the parts by number, size and ETag")
        if self.may_delete:
            with suppress(FailedError):
                await self._complete(upload, receipts)
        else:
            self._notes.skipped("complete", "what cannot be deleted again is not stored")
        other = upload if not self.may_delete else await self._create("")
        with self._notes.checking("abort", "writeFiles"):
            await self._target.abort(other.dest_key, other.upload_id)
            gone = await self._target.list_parts(other) is None
        if gone:
            self._notes.passed("abort", "an aborted upload is gone")
        else:
            self._notes.doubtful(
                "abort", "an upload is still there after its abort", "polyb2 cleanup removes such uploads"
            )

    async def _create(self, name: str) -> Upload:
        with self._notes.checking(name or "abort", "writeFiles"):
            upload_id = await self._target.create(self._key, self._stamp)
            self.leavings.uploads.append(upload_id)
        if name:
            self._notes.passed(name, "a multipart upload can be begun")
        plan = PartPlan(_SIZE, PART_BYTES_MIN)
        return Upload(0, 1, self._key, upload_id, "", plan, PartProof.PARTS, UploadState.OPEN)

    async def _send(self, upload: Upload) -> list[Receipt]:
        receipts: list[Receipt] = []
        with self._notes.checking("upload_part", "writeFiles"):
            for number in range(1, upload.plan.count + 1):
                part = upload.plan.part(number)
                receipts.append(await self._target.guard.tried(partial(self._send_part, upload, part)))
        self.etags_are_md5s = all(item.etag == item.md5 for item in receipts)
        if self.etags_are_md5s:
            self._notes.passed("upload_part", "part ETags are MD5s: files are proven before they are published")
        else:
            words = "part ETags are not MD5s: every file is read back after it was published"
            self._notes.doubtful("upload_part", words, "nothing to do; it costs as many bytes of download as of upload")
        return receipts

    async def _send_part(self, upload: Upload, part: Part) -> Receipt:
        relay = Relay(_noise(part.length), part.length, Bandwidth()).hashing()
        etag = await self._target.put_part(upload, part, relay, fresh=True)
        return Receipt(part, etag, relay.md5)

    async def _complete(self, upload: Upload, receipts: list[Receipt]) -> None:
        with self._notes.checking("complete", "writeFiles"):
            await self._target.guard.tried(partial(self._complete_once, upload, receipts))
        with self._notes.checking("complete", "readFiles"):
            stored = await self._target.head(self._key)
        if stored is None or stored.size != _SIZE:
            words = "HEAD does not show the completed object yet"
            self._notes.doubtful(
                "complete", words, "polyb2 looks for it for minutes; run doctor again, which removes it"
            )
            return
        same = "the upload id" if stored.version_id == upload.upload_id else "an id of its own"
        form = "the composite" if stored.etag == composite([item.etag for item in receipts]) else "no composite"
        self._notes.passed("complete", f"the object's version is {same}, its ETag {form} of its parts")
        await self._complete_again(upload, receipts)

    async def _complete_once(self, upload: Upload, receipts: list[Receipt]) -> None:
        try:
            await self._target.complete(upload, receipts)
        except RemoteError as error:
            # The answer is lost, or the Complete was.
            if error.handling.scope is not Scope.FILE or await self._target.list_parts(upload) is not None:
                raise

    async def _complete_again(self, upload: Upload, receipts: list[Receipt]) -> None:
        try:
            await self._target.complete(upload, receipts)
        except RemoteError as error:
            if error.kind in {Kind.NO_SUCH_UPLOAD, Kind.NOT_FOUND}:
                self._notes.passed("second_complete", "is answered NoSuchUpload; polyb2 looks for the object then")
            else:
                self._notes.skipped("second_complete", f"did not come out: {error.found}")
        else:
            self._notes.passed("second_complete", "is answered like the first")


async def _noise(length: int) -> AsyncIterator[bytes]:
    block = secrets.token_bytes(min(length, 1 << 16))
    while length > 0:
        yield block[:length]
        length -= len(block)
