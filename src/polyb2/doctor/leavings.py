"""The remains of the canary in the bucket, and their removal: by listing, or else by the ids that were returned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from polyb2.core.errors import HANDLING, Kind, RemoteError
from polyb2.core.retry import LOOKING
from polyb2.core.stamp import Stamp
from polyb2.doctor.checks import FailedError, Notes
from polyb2.remote.b2 import Target

_SHOWN_MAX = 2 * LOOKING.tries
"""Versions that one doctor may have written without receiving their ids."""


class Leavings:
    """The remains under the canary's folder.

    Attributes:
        versions: ids of the versions that this doctor wrote; None for one without.
        uploads: ids of the uploads that it began.
    """

    def __init__(self, notes: Notes, target: Target, key: str, stamp: Stamp) -> None:
        self.versions: list[str | None] = []
        self.uploads: list[str] = []
        self._notes = notes
        self._target = target
        self._key = key
        self._folder = key[: key.rindex("/") + 1]
        self._stamp = stamp

    async def remove(self) -> None:
        """Remove everything under the folder, of this doctor or of one that was killed, and report what could not be removed.

        If the listings are refused or unknown, this doctor's objects are removed by the ids that were returned.
        """
        left: list[str] = []
        uploads = await self._listed_uploads()
        for key, upload_id in uploads:
            with _noted(left, f"the upload {upload_id} of {key}"):
                await self._target.abort(key, upload_id)
        listed = await self._listed_versions()
        ours = [(self._key, version_id) for version_id in self.versions if version_id]
        versions = ours if listed is None else listed
        for key, version_id in versions:
            with _noted(left, f"the version {version_id} of {key}"):
                await self._target.delete_version(key, version_id)
        if listed is None and not left:
            await self._remove_what_is_shown(left)
        if left:
            advice = (
                f"remove it by hand (on B2: Browse Files on the bucket's page); {HANDLING[Kind.NOT_PERMITTED].advice}"
            )
            self._notes.failed("delete", f"could not remove {'; '.join(left)}", advice)
        elif versions:
            self._notes.passed("delete", "deleteFiles is there; nothing of the canary is left")

    async def _listed_uploads(self) -> list[tuple[str, str]]:
        """Key and id of each unfinished upload under the folder; of our own where the target lists none."""
        ours = [(self._key, upload_id) for upload_id in self.uploads]
        try:
            with self._notes.checking("list_uploads", "listFiles"):
                listed = [(item.key, item.upload_id) async for item in self._target.open_uploads(self._folder)]
        except FailedError:
            return ours
        return listed

    async def _listed_versions(self) -> list[tuple[str, str]] | None:
        """Key and id of each version under the folder; None where the target lists none."""
        try:
            return [item async for item in self._target.versions(self._folder)]
        except RemoteError as error:
            words = f"the versions of an object cannot be listed: {error.found}"
            if error.kind is Kind.NOT_PERMITTED:
                self._notes.failed("versions_listed", f"the key lacks listFiles: {error.found}", error.advice)
            else:
                advice = "nothing to do: polyb2 needs it only for this check, which removes its object by its own ids"
                self._notes.doubtful("versions_listed", words, advice)
            return None

    async def _remove_what_is_shown(self, left: list[str]) -> None:
        """Remove versions without a known id, as the answer was lost or the bucket keeps no versions: HEAD names them."""
        for _ in range(_SHOWN_MAX):
            with _noted(left, self._key):
                stored = await self._target.head(self._key)
                if stored is None:
                    return
                if stored.stamp.token != self._stamp.token:
                    break
                # Where a bucket has no versions, its objects go by this name of one.
                await self._target.delete_version(self._key, stored.version_id or "null")
            if left:
                return
        left.append(f"{self._key} (it is still there after its removal)")


@contextmanager
def _noted(left: list[str], what: str) -> Iterator[None]:
    try:
        yield
    except RemoteError as error:
        left.append(f"{what} ({error.found})")
