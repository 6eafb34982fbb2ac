"""What watches a run from outside: the wall clock that somebody sets, and the receipts that must not be earned twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from polyb2.clock import Clock, Moment
from polyb2.core.parts import Part
from polyb2.core.records import Claim, Receipt, Upload
from polyb2.ledger.ledger import Ledger
from polyb2.remote.b2 import Target
from polyb2.remote.relay import Relay


class StepClock(Clock):
    """A wall clock that somebody sets while the run goes on; the monotonic one goes on as ever."""

    step_s = 0.0

    def now(self) -> Moment:
        moment = super().now()
        return replace(moment, wall_ms=moment.wall_ms + int(self.step_s * 1000))


class ViolationError(AssertionError):
    """A guarantee did not hold."""


def must(condition: object, words: str) -> None:
    if not condition:
        raise ViolationError(words)


class Receipts:
    """Watches that no part with a receipt is sent again while its upload stands."""

    def __init__(self) -> None:
        self._have: set[tuple[str, int]] = set()
        self.checks = 0

    def prime(self, have: set[tuple[str, int]]) -> None:
        """Receipts that another process wrote: upload id and part number."""
        self._have |= have

    def forget(self) -> None:
        """The ledger is another one now."""
        self._have.clear()

    @contextmanager
    def watched(self) -> Iterator[None]:
        put_part, add, drop = Target.put_part, Ledger.add_receipt, Ledger.drop_receipts

        async def putting(target: Target, upload: Upload, part: Part, body: Relay, *, fresh: bool) -> str:
            self.checks += 1
            must(
                (upload.upload_id, part.number) not in self._have, f"part {part.number} has a receipt and is sent again"
            )
            return await put_part(target, upload, part, body, fresh=fresh)

        async def adding(ledger: Ledger, claim: Claim, upload: Upload, receipt: Receipt) -> None:
            await add(ledger, claim, upload, receipt)
            self._have.add((upload.upload_id, receipt.part.number))

        async def dropping(ledger: Ledger, claim: Claim, upload: Upload, numbers: Iterable[int]) -> None:
            dropped = list(numbers)
            await drop(ledger, claim, upload, dropped)
            self._have -= {(upload.upload_id, number) for number in dropped}

        with (
            patch.object(Target, "put_part", putting),
            patch.object(Ledger, "add_receipt", adding),
            patch.object(Ledger, "drop_receipts", dropping),
        ):
            yield
