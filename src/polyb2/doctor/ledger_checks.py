"""The ledger: its place, as the store sees it, and its binding; the results that a run needs are stored in it."""

from __future__ import annotations

from polyb2.doctor.checks import Notes
from polyb2.flow.mirror import OPAQUE
from polyb2.ledger.open import check_makeable, examine_place, open_ledger
from polyb2.ledger.rows import TARGET_ETAGS, Binding


async def examine_ledger(notes: Notes, url: str, binding: Binding | None, *, part_etags_are_md5s: bool | None) -> None:
    """Check the ledger's place and binding, and store the results in a ledger that exists; none is made.

    Args:
        notes: where the checks go.
        url: of the ledger.
        binding: the pair that the settings name; None where they are incomplete.
        part_etags_are_md5s: property of the target; None if that is not known.

    Raises:
        FailedError: no run can work with it.
    """
    notes.add_all(examine_place(url))
    with notes.checking("open"):
        ledger = await open_ledger(url, make_new=False)
    try:
        with notes.checking("open"):
            checks = await (ledger.examine() if ledger.exists else check_makeable(url))
        words = "can be written" if ledger.exists else "is not there yet, and can be made"
        notes.passed("open", f"{ledger.place} {words}")
        notes.add_all(checks)
        if not ledger.exists:
            notes.skipped("binding", "there is no ledger yet")
            return
        if binding is None:
            notes.skipped("binding", "the settings are incomplete")
            return
        with notes.checking("binding"):
            await ledger.bind(binding)
            if part_etags_are_md5s is not None:
                await ledger.remember(TARGET_ETAGS, None if part_etags_are_md5s else OPAQUE)
        notes.passed("binding", "belongs to this source and this bucket")
    finally:
        await ledger.close()
