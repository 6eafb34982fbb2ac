"""Both servers together, and the settings that point a client at them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from polyb2.sandbox.source import SourceServer
from polyb2.sandbox.target import TargetServer


class Sandbox:
    """A source and a target on free ports of loopback; use it as an async context manager.

    Args:
        folder: where the target keeps its bytes; None keeps them in memory.
        hashes_only: the target keeps hashes instead of bytes.
    """

    def __init__(self, folder: Path | None = None, *, hashes_only: bool = False) -> None:
        self.source = SourceServer()
        self.target = TargetServer(folder, hashes_only=hashes_only)

    async def __aenter__(self) -> Self:
        await self.source.start()
        await self.target.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.source.stop()
        await self.target.stop()

    def environment(self) -> dict[str, str]:
        """The settings of a polyb2 that mirrors from the one to the other."""
        source, target = self.source, self.target
        return {
            "POLYGON_S3_ACCESS_KEY_ID": source.access_key,
            "POLYGON_S3_SECRET_ACCESS_KEY": source.secret_key,
            "POLYGON_S3_ENDPOINT_URL": source.endpoint_url,
            "POLYGON_S3_BUCKET": source.bucket,
            "B2_KEY_ID": target.access_key,
            "B2_APPLICATION_KEY": target.secret_key,
            "B2_BUCKET_NAME": target.bucket,
            "B2_ENDPOINT_URL": target.endpoint_url,
            "B2_REGION": "us-west-004",
        }
