"""The preflight against a real S3 server, which answers some requests unexpectedly."""

from __future__ import annotations

import uuid
from pathlib import Path

from pydantic import SecretStr

from polyb2.config import Settings
from polyb2.doctor.examine import examine
from polyb2.ledger.rows import Level
from polyb2.remote.sessions import Account, open_client
from tests.conftest import DAY_AGGS, key
from tests.swift import SwiftServer


async def test_a_real_s3_server_passes_and_keeps_nothing(swift: SwiftServer, tmp_path: Path) -> None:
    source, target = (f"d-{uuid.uuid4().hex[:12]}" for _ in range(2))
    account = Account(swift.endpoint_url, source, swift.region, swift.access_key, swift.secret_key)
    async with open_client(account) as client:
        for bucket in (source, target):
            await client.create_bucket(Bucket=bucket)
        await client.put_bucket_versioning(Bucket=target, VersioningConfiguration={"Status": "Enabled"})
        for day in ("2024-01-02", "2024-01-03"):
            await client.put_object(Bucket=source, Key=key(day), Body=b"x" * 100)
        checkup = await examine(
            Settings(
                polygon_s3_endpoint_url=swift.endpoint_url,
                polygon_s3_bucket=source,
                polygon_s3_access_key_id=swift.access_key,
                polygon_s3_secret_access_key=SecretStr(swift.secret_key),
                b2_endpoint_url=swift.endpoint_url,
                b2_bucket_name=target,
                b2_key_id=swift.access_key,
                b2_application_key=SecretStr(swift.secret_key),
                b2_region=swift.region,
                database_url=f"sqlite:///{tmp_path / 'ledger.db'}",
                polyb2_datasets=[DAY_AGGS],
            )
        )
        left = await client.list_object_versions(Bucket=target)
        uploads = await client.list_multipart_uploads(Bucket=target)
    assert [check for check in checkup.checks if check.level is Level.FAIL] == []
    levels = {check.name: check.level for check in checkup.checks}
    for name in ("put", "content_md5", "head", "metadata", "read", "upload_part", "list_parts", "complete", "delete"):
        assert levels[f"target.{name}"] is Level.PASS, name
    assert not any([left.get("Versions"), left.get("DeleteMarkers"), uploads.get("Uploads")])
