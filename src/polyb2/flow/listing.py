"""One prefix of a side, listed to its end, with nothing believed unseen: a bound on all that a listing could go on with.

A dataset has at most one file a day, so whatever is no file of the layout, comes again or never ends is bounded by a
count. One entry that cannot be is left out and named; a listing that cannot be ends for its prefix, and says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import date

from polyb2.core.errors import Kind, RemoteError, Side
from polyb2.core.keys import KEY_BYTES_MAX, FileName, parse_key, short
from polyb2.core.parts import OBJECT_BYTES_MAX, fits_target
from polyb2.core.records import ListedObject
from polyb2.core.units import format_size

PAGES_MAX = 20_000
"""More pages than any prefix has: 1,000 keys a page, a key a day."""
STUCK_MAX = 200
"""Pages in a row that bring no key behind all those before; a listing that is not in order has some such."""
FOREIGN_MAX = 100_000
"""Keys below a prefix that are no flat files of it."""
TWICE_MAX = 1000
"""Keys that are listed again."""
Ignore = Callable[[str, str | None], None]


class ListingError(RemoteError):
    """A listing that cannot be: it is over for its prefix, and the others go on."""

    def __init__(self, side: Side, prefix: str, found: str) -> None:
        super().__init__(side, Kind.MISCONFIGURED, f"the listing of {short(prefix)} {found}")


async def bounded(
    pages: AsyncIterator[list[ListedObject]], side: Side, prefix: str
) -> AsyncIterator[list[ListedObject]]:
    """The pages of a listing, which ends.

    Raises:
        ListingError: it does not end.
    """
    greatest, stuck, count = "", 0, 0
    async for page in pages:
        last = max((item.key for item in page), default="")
        count, stuck = count + 1, 0 if last > greatest else stuck + 1
        greatest = max(greatest, last)
        if stuck > STUCK_MAX:
            raise ListingError(side, prefix, f"does not end: {STUCK_MAX} pages brought no further key")
        if count > PAGES_MAX:
            raise ListingError(side, prefix, f"does not end: it has more than {PAGES_MAX} pages")
        yield page


@dataclass(slots=True)
class Sieve:
    """Lets the files of one dataset through, each once.

    Attributes:
        dataset: whose files.
        prefix: what is listed.
        ignore: is given each key that is left out, and why where it is not simply foreign.
        days: the dates of the files that were listed so far.
    """

    dataset: str
    prefix: str
    ignore: Ignore
    days: set[date] = field(default_factory=set)
    _foreign: int = 0
    _twice: int = 0

    def name_of(self, listed: ListedObject) -> FileName | None:
        """What the key says; None for an entry that is to be left out.

        Raises:
            ListingError: more is left out than can be.
        """
        name = None if len(listed.key.encode("utf-8", "replace")) > KEY_BYTES_MAX else parse_key(listed.key)
        if name is None or name.dataset != self.dataset or not listed.key.startswith(self.prefix):
            self._foreign += 1
            if self._foreign > FOREIGN_MAX:
                raise ListingError(
                    Side.SOURCE, self.prefix, f"has more than {FOREIGN_MAX} keys that are no flat files of it"
                )
            self.ignore(listed.key, None)
            return None
        if name.date in self.days:
            self._twice += 1
            if self._twice > TWICE_MAX:
                raise ListingError(Side.SOURCE, self.prefix, f"does not end: it has shown {TWICE_MAX} keys again")
            return None
        self.days.add(name.date)
        if why := unusable(listed):
            self.ignore(listed.key, why)
            return None
        return name


def unusable(listed: ListedObject) -> str | None:
    """Why nothing can be done with what is listed of a file; None where something can."""
    if listed.size < 0 or not listed.etag or listed.last_modified_ms < 0:
        return "its entry in the listing lacks a size, an ETag or a time that can be"
    if not fits_target(listed.size):
        return f"listed with {listed.size} bytes, more than the target holds ({format_size(OBJECT_BYTES_MAX)})"
    return None
