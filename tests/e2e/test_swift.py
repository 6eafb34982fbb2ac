"""One whole life of a mirror between real S3 servers: OpenStack Swift on both sides, polyb2 as its own process."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from polyb2.remote.sessions import Account, open_client
from polyb2.sandbox import Sandbox
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key
from tests.swift import SwiftServer


class RealBench(Bench):
    """The same command line, pointed at Swift."""

    server: SwiftServer
    buckets: tuple[str, str]

    def environment(self, **extra: str) -> dict[str, str]:
        server = self.server
        return super().environment(
            POLYGON_S3_ENDPOINT_URL=server.endpoint_url,
            POLYGON_S3_ACCESS_KEY_ID=server.access_key,
            POLYGON_S3_SECRET_ACCESS_KEY=server.secret_key,
            POLYGON_S3_BUCKET=self.buckets[0],
            B2_ENDPOINT_URL=server.endpoint_url,
            B2_KEY_ID=server.access_key,
            B2_APPLICATION_KEY=server.secret_key,
            B2_BUCKET_NAME=self.buckets[1],
            B2_REGION="us-east-1",
            **extra,
        )


async def test_discover_run_verify_revise_and_adopt(swift: SwiftServer, tmp_path: Path) -> None:
    bench = RealBench(Sandbox(), tmp_path, {})
    bench.server, bench.buckets = swift, (f"src-{uuid.uuid4().hex[:8]}", f"dst-{uuid.uuid4().hex[:8]}")
    small, large = key("2024-01-02"), key("2024-01-02", QUOTES)
    originals = {small: os.urandom(20_000), large: os.urandom(23 * MIB)}
    account = Account(swift.endpoint_url, bench.buckets[0], swift.region, swift.access_key, swift.secret_key)
    async with open_client(account) as client:

        async def stored(name: str) -> bytes:
            answer = await client.get_object(Bucket=bench.buckets[1], Key=name)
            return await answer["Body"].read()

        for bucket in bench.buckets:
            await client.create_bucket(Bucket=bucket)
        await client.put_bucket_versioning(Bucket=bench.buckets[1], VersioningConfiguration={"Status": "Enabled"})
        for name, data in originals.items():
            await client.put_object(Bucket=bench.buckets[0], Key=name, Body=data)
        ended = await bench.cli("discover", "--dates", "2024-01-02", "--dataset", f"{DAY_AGGS},{QUOTES}")
        assert ended.code == 0, ended.err
        ended = await bench.cli("run", "--concurrency", "32")
        assert ended.code == 0, ended.err
        for name, data in originals.items():
            assert await stored(name) == data
        assert (await bench.cli("verify", "--deep", "--json")).json()["differences"] == []
        rows = await bench.rows()
        assert {name: row["verification"] for name, row in rows.items()} == {small: "etag", large: "parts"}

        ended = await bench.cli("sync", "--dates", "2024-01-02", "--dataset", f"{DAY_AGGS},{QUOTES}")
        assert "0 files completed" in ended.out

        await client.put_object(Bucket=bench.buckets[0], Key=small, Body=b"second revision")
        assert (await bench.cli("sync", "--historical", "--dataset", DAY_AGGS)).code == 0
        assert await stored(small) == b"second revision"
        versions = await client.list_object_versions(Bucket=bench.buckets[1], Prefix=small)
        assert len(versions["Versions"]) == 2

        for file in tmp_path.glob("ledger.db*"):
            file.unlink()
        report = (await bench.cli("discover", "--historical", "--dataset", f"{DAY_AGGS},{QUOTES}", "--json")).json()
        assert (report["adopted"], report["queued"]) == (2, 0)
