"""A mirror of what the source itself seems to be, a Ceph gateway, to Swift: preflight, kills, proof (`make test-ceph`)."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from polyb2.remote.sessions import Account, open_client
from polyb2.sandbox import Sandbox
from tests.ceph import CephServer
from tests.conftest import DAY_AGGS, MIB, QUOTES, Bench, key
from tests.swift import SwiftServer

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

pytestmark = pytest.mark.ceph

PART = 6 * MIB
DAYS = ("2024-01-02", "2024-01-03", "2024-01-04")
LARGE, SMALL = [key(day, QUOTES) for day in DAYS], [key(day) for day in DAYS]
CHOSEN = ("--historical", "--dataset", f"{DAY_AGGS},{QUOTES}")
KILLS = (
    "ledger.claim.after=kill@1",
    "target.create.after=kill@1",
    "ledger.receipt.before=kill@2",
    "ledger.receipt.after=kill@3",
    "target.complete.before=kill@1",
    "target.complete.after=kill@1",
    "ledger.complete.before=kill@2",
    "target.put.after=kill@1",
)


@dataclass
class Between(Bench):
    """The command line, pointed at a Ceph gateway as the source and Swift as the target."""

    ceph: CephServer
    swift: SwiftServer
    source: S3Client
    target: S3Client
    buckets: tuple[str, str]

    def environment(self, **extra: str) -> dict[str, str]:
        return super().environment(
            **{
                "POLYGON_S3_ENDPOINT_URL": self.ceph.endpoint_url,
                "POLYGON_S3_ACCESS_KEY_ID": self.ceph.access_key,
                "POLYGON_S3_SECRET_ACCESS_KEY": self.ceph.secret_key,
                "POLYGON_S3_BUCKET": self.buckets[0],
                "B2_ENDPOINT_URL": self.swift.endpoint_url,
                "B2_KEY_ID": self.swift.access_key,
                "B2_APPLICATION_KEY": self.swift.secret_key,
                "B2_BUCKET_NAME": self.buckets[1],
                "B2_REGION": self.swift.region,
                "POLYB2_LEASE_SECONDS": "1",
            }
            | extra
        )

    async def publish(self, name: str, data: bytes) -> None:
        """As the vendor seems to: whole up to a part's size, else in parts of equal size."""
        bucket = self.buckets[0]
        if len(data) <= PART:
            await self.source.put_object(Bucket=bucket, Key=name, Body=data)
            return
        upload = (await self.source.create_multipart_upload(Bucket=bucket, Key=name))["UploadId"]
        made = []
        for number, start in enumerate(range(0, len(data), PART), start=1):
            body = data[start : start + PART]
            answer = await self.source.upload_part(
                Bucket=bucket, Key=name, UploadId=upload, PartNumber=number, Body=body
            )
            made.append({"PartNumber": number, "ETag": answer["ETag"]})
        await self.source.complete_multipart_upload(
            Bucket=bucket,
            Key=name,
            UploadId=upload,
            MultipartUpload={"Parts": made},  # type: ignore[typeddict-item]
        )

    async def mirrored(self, name: str) -> bytes:
        answer = await self.target.get_object(Bucket=self.buckets[1], Key=name)
        return await answer["Body"].read()


@pytest.fixture
async def between(ceph: CephServer, swift: SwiftServer, tmp_path: Path) -> AsyncIterator[Between]:
    source, target = (f"{side}-{uuid.uuid4().hex[:8]}" for side in ("src", "dst"))
    ours = Account(ceph.endpoint_url, source, ceph.region, ceph.access_key, ceph.secret_key)
    theirs = Account(swift.endpoint_url, target, swift.region, swift.access_key, swift.secret_key)
    async with open_client(ours) as at_ceph, open_client(theirs) as at_swift:
        await at_ceph.create_bucket(Bucket=source)
        await at_swift.create_bucket(Bucket=target)
        await at_swift.put_bucket_versioning(Bucket=target, VersioningConfiguration={"Status": "Enabled"})
        yield Between(Sandbox(), tmp_path, {}, ceph, swift, at_ceph, at_swift, (source, target))


async def test_the_preflight_passes_on_what_the_source_seems_to_be(between: Between) -> None:
    await between.publish(SMALL[0], os.urandom(1000))
    await between.publish(LARGE[0], os.urandom(2 * PART))
    for _ in range(5):  # the gateway sends stray bytes after some answers: one try proves nothing
        ended = await between.cli("doctor", "--json", POLYB2_DATASETS=f"{DAY_AGGS},{QUOTES}")
        failed = [check for check in ended.json()["checks"] if check["level"] == "fail"]
        assert (ended.code, failed) == (0, []), ended.out


async def test_a_mirror_with_kills_is_whole_and_proven(between: Between) -> None:
    originals = {name: os.urandom(4 * PART + 1000 * number) for number, name in enumerate(LARGE)}
    originals |= {name: os.urandom(20_000) for name in SMALL}
    for name, data in originals.items():
        await between.publish(name, data)
    codes = [(await between.cli("sync", *CHOSEN, POLYB2_FAILPOINTS=point)).code for point in KILLS]
    assert codes.count(-signal.SIGKILL) >= len(KILLS) // 2, codes
    assert set(codes) <= {0, -signal.SIGKILL}, codes
    ended = await between.cli("sync", *CHOSEN)
    assert ended.code == 0, ended.err
    for name, data in originals.items():
        assert await between.mirrored(name) == data
    rows = await between.rows()
    assert {row["status"] for row in rows.values()} == {"completed"}
    assert all("-" in rows[name]["source_etag"] for name in LARGE), "the sources were to have composite ETags"
    left = await between.target.list_multipart_uploads(Bucket=between.buckets[1])
    assert not left.get("Uploads")
    assert (await between.cli("verify", "--deep", "--json")).json()["differences"] == []


async def test_a_replaced_file_is_mirrored_again_and_a_lost_ledger_adopts(between: Between, tmp_path: Path) -> None:
    name = LARGE[0]
    await between.publish(SMALL[0], os.urandom(1000))
    await between.publish(name, os.urandom(2 * PART))
    assert (await between.cli("sync", *CHOSEN)).code == 0
    newer = os.urandom(3 * PART)
    await between.publish(name, newer)
    assert (await between.cli("sync", *CHOSEN)).code == 0
    assert await between.mirrored(name) == newer
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    report = (await between.cli("discover", *CHOSEN, "--json")).json()
    assert (report["adopted"], report["queued"]) == (2, 0)
