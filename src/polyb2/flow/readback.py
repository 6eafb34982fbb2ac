"""Comparing what the target holds with the source, byte for byte by hashes, where no earlier proof can be trusted."""

from __future__ import annotations

from polyb2.core.gzipped import GzipCheck
from polyb2.core.parts import AUTOMATIC_MAX, PartPlan
from polyb2.core.proof import md5_form
from polyb2.core.records import Revision, StoredObject
from polyb2.flow.mirror import Mirror, whole
from polyb2.flow.stream import hash_source, hash_stored
from polyb2.flow.streams import Slot


async def equals_source(
    mirror: Mirror, key: str, revision: Revision, stored: StoredObject, slot: Slot, gzip: GzipCheck | None = None
) -> bool:
    """Whether the stored object has the bytes of the source's revision; ``gzip`` is fed with them if it does.

    Where the source's ETag has the form of an MD5 and the object's hash is that, only the target is read; else both are,
    range by range.
    """
    dest_key = mirror.target.prefix + key
    expected = md5_form(revision.etag)
    if expected:
        fed = gzip.copy() if gzip else None
        if await hash_stored(mirror, dest_key, stored.version_id, whole(revision.size), slot, fed) == expected:
            if gzip and fed:
                gzip.become(fed)
            return True
    plan = PartPlan(revision.size, AUTOMATIC_MAX)
    for number in range(1, plan.count + 1):
        part = plan.part(number)
        ours = await hash_source(mirror, key, revision, part if revision.size else None, slot)
        if ours != await hash_stored(mirror, dest_key, stored.version_id, part, slot, gzip):
            return False
    return True
