"""The target's refusals of one upload, and the decision to give that upload up for another one.

B2 binds an upload to a vault. A full vault answers 503 "no uploads available" to every part, or 500 "retry your
upload" to the Complete, for as long as the client asks; another upload lands in another vault. To begin again costs the
stored bytes, so it has to be likely that the refusals are this upload's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.records import Receipt
from polyb2.flow.mirror import Mirror

REFUSALS_MAX = 5
"""Consecutive refusals that are enough; random refusals of a share of all requests hardly ever reach that."""
UPLOADS_MAX = 3
"""Uploads that one attempt begins, at most; the last one gets all tries."""
RESENT_BYTES_MAX = 1 << 30
"""Bytes that may be sent again on suspicion."""


class UploadRefusedError(Exception):
    """The target refuses this upload: another one is to be begun. ``error`` is its last answer."""

    def __init__(self, error: RemoteError) -> None:
        super().__init__(str(error))
        self.error = error


class Refusals:
    """Counts the refusals of one upload in a row, over all of its parts and its Complete."""

    def __init__(self, mirror: Mirror, done: Mapping[int, Receipt], *, is_last: bool) -> None:
        """``done`` are the upload's receipts, as they grow; ``is_last`` forbids a further upload in its place."""
        self._mirror = mirror
        self._done = done
        self._is_last = is_last
        self._was_begun_before = bool(done)
        self._in_a_row: list[RemoteError] = []
        self._others_bytes = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one UploadPart or Complete.

        Raises:
            UploadRefusedError: the refusals are enough, and nothing is lost by another upload.
        """
        try:
            yield
        except RemoteError as error:
            if error.side is Side.TARGET and error.kind is Kind.SERVER_ERROR:
                self._refused(error)
            raise
        self._in_a_row.clear()
        self._was_begun_before = False

    def verdict(self, error: RemoteError) -> Exception:
        """The exception of a transfer that ends with ``error``: the error itself, or the request for another upload."""
        few = min(REFUSALS_MAX, self._mirror.target.guard.policy.tries)
        is_of_them = any(error is refusal for refusal in self._in_a_row)
        if not is_of_them or len(self._in_a_row) < few or self._is_last:
            return error
        is_cheap = self._stored_bytes <= RESENT_BYTES_MAX
        others_get_through = self._bytes_of_others > self._others_bytes
        return UploadRefusedError(error) if is_cheap or others_get_through or self._was_begun_before else error

    def _refused(self, error: RemoteError) -> None:
        if not self._in_a_row:
            self._others_bytes = self._bytes_of_others
        self._in_a_row.append(error)
        if len(self._in_a_row) >= REFUSALS_MAX and not self._done and not self._is_last:
            raise UploadRefusedError(error)

    @property
    def _stored_bytes(self) -> int:
        return sum(receipt.part.length for receipt in self._done.values())

    @property
    def _bytes_of_others(self) -> int:
        """Bytes that this process stored for other files; their growth shows that the target accepts bytes."""
        return sum(self._mirror.meters.stored_bytes.values()) - self._stored_bytes
