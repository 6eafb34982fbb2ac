"""What hashing every byte costs at least: MD5, which both sides' ETags are made of, in pieces of the transfer path's size."""

from __future__ import annotations

import hashlib
import time

from benchmarks.files import GIB
from benchmarks.scenarios import Options
from polyb2.remote.pump import BUFFER_BYTES


def digest(options: Options) -> str:
    """CPU seconds a GiB."""
    pieces = max(1, int(GIB * options.scale) // BUFFER_BYTES)
    piece = bytes(BUFFER_BYTES)
    md5 = hashlib.md5(usedforsecurity=False)
    began_s = time.process_time()
    for _ in range(pieces):
        md5.update(piece)
    seconds = (time.process_time() - began_s) * GIB / (pieces * BUFFER_BYTES)
    return f"MD5 in pieces of {BUFFER_BYTES // 1024} KiB: {seconds:.2f} CPU-s a GiB."
