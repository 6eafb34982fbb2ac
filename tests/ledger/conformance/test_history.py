"""A file's history: what happened to it, in the ledger's own order and in UTC."""

from __future__ import annotations

import json

from polyb2.core.errors import Kind
from tests.conftest import key
from tests.ledger.conftest import SENT, SIZE, Books, listed

DAY = "2024-01-02"


async def test_revisions_and_attempts_are_told_from_the_first_on(books: Books) -> None:
    claim = await books.claimed(listed(DAY, "a", modified=1_704_200_000_500))
    books.clock.go_on(12)
    await books.fail(claim, Kind.STALLED)
    books.clock.go_on(60)
    await books.ledger.complete(await books.claim(await books.worker("second")), SENT, SIZE)
    books.clock.go_on(3600)
    await books.discover(listed(DAY, "b", size=40))
    await books.claim()
    history = await books.ledger.history(key(DAY))
    assert history is not None
    shown = json.loads(json.dumps(history.as_json()))
    assert (shown["key"], shown["status"], shown["revision"], shown["mirrored_revision"]) == (
        key(DAY), "processing", 2, 1,
    )  # fmt: skip
    assert shown["revisions"] == [
        {
            "revision": 1, "source_etag": "a", "size": SIZE, "source_last_modified": "2024-01-02T12:53:20.500Z",
            "first_seen_at": "2026-01-01T00:00:00.000Z", "mirrored_at": "2026-01-01T00:01:12.000Z",
            "dest_etag": "sent", "dest_version_id": "version", "verification": "parts",
        },
        {
            "revision": 2, "source_etag": "b", "size": 40, "source_last_modified": "1970-01-01T00:00:00.000Z",
            "first_seen_at": "2026-01-01T01:01:12.000Z", "mirrored_at": None,
            "dest_etag": None, "dest_version_id": None, "verification": None,
        },
    ]  # fmt: skip
    first, second, third = shown["attempts"]
    assert (first["outcome"], first["reason"], first["seconds"]) == ("fail_download", "stalled", 12)
    assert "it broke" in first["error_message"]
    assert (second["attempt"], second["worker_id"], second["outcome"], second["seconds"]) == (
        2, "second", "completed", 0,
    )  # fmt: skip
    assert (third["revision"], third["outcome"], third["ended_at"], third["seconds"]) == (2, None, None, None)


async def test_no_token_is_told(books: Books) -> None:
    claim = await books.claimed(listed(DAY))
    history = await books.ledger.history(key(DAY))
    assert history is not None
    assert claim.token not in json.dumps(history.as_json())


async def test_an_adopted_file_has_a_revision_and_no_attempt(books: Books) -> None:
    await books.discover(listed(DAY), adopted=SENT)
    history = await books.ledger.history(key(DAY))
    assert history is not None
    assert [row.verification for row in history.revisions] == ["parts"]
    assert list(history.attempts) == []


async def test_an_unknown_key_has_no_history(books: Books) -> None:
    await books.discover(listed(DAY))
    assert await books.ledger.history(key("2024-01-03")) is None
    assert await books.ledger.history("") is None
