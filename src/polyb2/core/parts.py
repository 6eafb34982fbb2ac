"""The division of a file into parts: a pure function of sizes within the limits of both sides.

The plan is stored with the upload and never changes for it, so that any later process sends the same ranges.
Limits: Backblaze S3 API, parts of 5,000,000 bytes to 5 GB, the last may be smaller, 10,000 at most, object at most 10 TB.
"""

from __future__ import annotations

from dataclasses import dataclass

from polyb2.core.units import MIB

PART_BYTES_MIN = 5 * MIB
PART_BYTES_MAX = 5_000_000_000
PARTS_MAX = 10_000
OBJECT_BYTES_MAX = 10_000_000_000_000
PARTS_AIMED_MAX = 9_900
AUTOMATIC_MIN = 8 * MIB
AUTOMATIC_MAX = 64 * MIB
SOURCE_PART_MAX = 128 * MIB
STREAM_BUFFER_BYTES = 512 * 1024
"""Bytes of a body that one transfer may hold; a file that fits is hashed before it is sent."""


@dataclass(frozen=True, slots=True)
class Part:
    """A byte range of a file; numbers start at 1."""

    number: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PartPlan:
    """A file of ``size`` bytes in equal parts of ``part_bytes``, the last one shorter."""

    size: int
    part_bytes: int

    @property
    def count(self) -> int:
        return max(1, -(-self.size // self.part_bytes))

    def part(self, number: int) -> Part:
        offset = (number - 1) * self.part_bytes
        return Part(number, offset, min(self.part_bytes, self.size - offset))


def single_part(size: int) -> Part:
    """A file of ``size`` bytes as one part."""
    return Part(1, 0, size)


def fits_target(size: int) -> bool:
    """Tell if the target can hold an object of this size, which comes unchecked from a listing or an answer."""
    return 0 <= size <= OBJECT_BYTES_MAX


def bytes_to_send(size: int) -> int:
    """The bytes that are sent for a file of this size; none beyond the target's limit, as such a file is parked unsent."""
    return size if fits_target(size) else 0


def plan_parts(size: int, *, streams: int, source_part_bytes: int | None = None, wanted: int | None = None) -> PartPlan:
    """The part plan of a file that :func:`fits_target`.

    Args:
        size: bytes of the file.
        streams: slots of the process; a file is cut so that each gets about eight parts.
        source_part_bytes: the source's own part size, where known; used when between 5 and 128 MiB, because then its
            composite ETag proves every byte.
        wanted: ``POLYB2_PART_SIZE``; wins over all but the limits of the target.
    """
    parts_max = PARTS_MAX
    if wanted is not None:
        part_bytes = wanted
    elif source_part_bytes is not None and PART_BYTES_MIN <= source_part_bytes <= SOURCE_PART_MAX:
        part_bytes = source_part_bytes
    else:
        part_bytes = min(max(size // (8 * streams), AUTOMATIC_MIN), AUTOMATIC_MAX)
        parts_max = PARTS_AIMED_MAX
    floor = max(PART_BYTES_MIN, -(-size // parts_max))
    return PartPlan(size, min(max(part_bytes, floor), PART_BYTES_MAX))
