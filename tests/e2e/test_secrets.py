"""Secrets and signed URLs, searched for everywhere at DEBUG level while everything goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from polyb2.sandbox import Answer, Cut, Fault, GeneratedGzip, Reset, Sandbox, Shape
from polyb2.sandbox.exchange import Reply
from tests.conftest import MIB, QUOTES, Bench, key

SMALL, LARGE = key("2024-01-02"), key("2024-01-02", QUOTES)
_SIGNED = re.compile(r"(?:Signature|Credential)(?:=|%3D)[0-9A-Za-z%/+-]{8}", re.IGNORECASE)


def _echo(reply: Reply) -> None:
    """As a proxy that shows what it was asked."""
    url = "https://h/k?X-Amz-Credential=00000000-aaaa%2F20240102&X-Amz-Signature=" + "0" * 64
    body = f"<Error><Code>Strange</Code><Message>{url}</Message></Error>".encode()
    reply.status, reply.body, reply.length = 400, body, len(body)


def _everywhere(*faults: Fault) -> Callable[[Sandbox], None]:
    def arm(box: Sandbox) -> None:
        for server in (box.source, box.target):
            for fault in faults:
                server.inject(Fault(fault.operation, fault.action, times=0))

    return arm


def _gone(box: Sandbox) -> None:
    for name in ("get", "put", "upload_part"):
        box.source.inject(Fault(name, Reset("before"), times=0))
    box.target.keys_revoked = True


TROUBLE: dict[str, tuple[Callable[[Sandbox], None], dict[str, str]]] = {
    "connections reset": (
        _everywhere(*(Fault(name, Reset("middle", 100)) for name in ("get", "put", "upload_part"))),
        {},
    ),
    "signatures refused": (_everywhere(Fault("*", Answer(403, "SignatureDoesNotMatch"))), {}),
    "the request is shown": (_everywhere(Fault("*", Shape(_echo))), {}),
    "answers cut": (_everywhere(Fault("*", Cut(40))), {}),
    "keys revoked": (_gone, {}),
    "a bug": (lambda _box: None, {"POLYB2_FAILPOINTS": "target.put.before=raise,ledger.complete.before=raise"}),
    "a bug in the ledger": (lambda _box: None, {"POLYB2_FAILPOINTS": "ledger.claim.after=raise"}),
    "nobody there": (lambda _box: None, {"HTTP_PROXY": "http://me:hunter2@127.0.0.1:1"}),
}


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_no_secret_is_anywhere(bench: Bench, trouble: str) -> None:
    bench.box.source.put(SMALL, b"x")
    bench.box.source.put(LARGE, GeneratedGzip(11 * MIB))
    await bench.discover()
    arm, extra = TROUBLE[trouble]
    arm(bench.box)
    extra |= {"POLYB2_PART_TRIES": "2", "POLYB2_MAX_RETRIES": "0", "POLYB2_GIVE_UP": "1s", "POLYB2_PART_SIZE": "5MiB"}
    words = ("--debug", "--log-format", "json" if len(trouble) % 2 else "text", "run")
    process = await bench.start(*words, LOG_LEVEL="DEBUG", **extra)
    out, err = await process.communicate()
    told = out.decode() + err.decode()
    assert "DEBUG" in told or "debug" in told
    bench.box.source.clear_faults()
    for command in (("status", "--json"), ("files", "--json")):
        told += (await bench.cli(*command)).out
    told += "".join(str(version.metadata) for name in (SMALL, LARGE) for version in bench.box.target.versions(name))
    told += "".join(path.read_bytes().decode("latin-1") for path in bench.folder.glob("ledger.db*"))
    for secret in (bench.box.source.secret_key, bench.box.target.secret_key, "hunter2"):
        assert secret not in told
    assert not _SIGNED.search(told), _SIGNED.search(told)
