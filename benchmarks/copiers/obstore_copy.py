"""A copy with obstore: the GET's stream is the PUT's body, in parts of 16 MiB, four at a time.

Runs in the peers' environment, from the command line: SOURCE_URL TARGET_URL FILES_AT_ONCE.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import obstore
from obstore.store import S3Store

CHUNK_BYTES = 16 << 20


def _store(bucket: str, url: str) -> S3Store:
    options: dict[str, Any] = {"allow_http": True, "timeout": "10m"}
    if authority := os.environ.get("SSL_CERT_FILE"):
        with open(authority, "rb") as file:  # noqa: PTH123 - no need of pathlib in a script this small
            options["root_certificate"] = file.read()
    return S3Store(
        bucket,
        endpoint=url,
        region="us-east-1",
        access_key_id="bench",
        secret_access_key="bench-secret",  # noqa: S106 - nobody checks it
        virtual_hosted_style_request=False,
        client_options=options,
    )


async def _copy(source: S3Store, target: S3Store, key: str, at_once: asyncio.Semaphore) -> None:
    async with at_once:
        found = await obstore.get_async(source, key)
        stream = found.stream(min_chunk_size=1 << 20)
        await obstore.put_async(target, key, stream, chunk_size=CHUNK_BYTES, max_concurrency=4)


async def main() -> None:
    source, target = _store("flatfiles", sys.argv[1]), _store("mirror", sys.argv[2])
    at_once = asyncio.Semaphore(int(sys.argv[3]))
    listed = await obstore.list(source).collect_async()
    async with asyncio.TaskGroup() as group:
        for item in listed:
            group.create_task(_copy(source, target, item["path"], at_once))


asyncio.run(main())
# Its threads outlive the loop, and abort the process if they meet an interpreter that is ending.
os._exit(0)
