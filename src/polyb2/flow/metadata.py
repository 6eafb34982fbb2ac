"""The metadata of each object: our token and proof, and the source's time in rclone's and in Backblaze's convention."""

from __future__ import annotations

from urllib.parse import quote

from polyb2 import __version__
from polyb2.core.proof import ProofMark
from polyb2.core.records import Claim


def metadata(claim: Claim, token: str, mark: ProofMark) -> dict[str, str]:
    """Names without ``x-amz-meta-``; values are ASCII."""
    modified_ms = claim.revision.last_modified_ms
    return {
        "polyb2-token": token,
        # An ETag is ASCII by its standard; one that is not must still not break a header.
        "polyb2-source-etag": quote(claim.revision.etag, safe="".join(map(chr, range(0x21, 0x7F)))),
        "polyb2-proof": mark,
        "polyb2-version": __version__,
        "mtime": f"{modified_ms // 1000}.{modified_ms % 1000:03}",
        "src_last_modified_millis": str(modified_ms),
    }
