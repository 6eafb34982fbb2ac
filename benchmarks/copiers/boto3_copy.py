"""A copy with boto3: ``get_object``'s body into ``upload_fileobj``, in parts of 16 MiB, four at a time.

Runs in the peers' environment, from the command line: SOURCE_URL TARGET_URL FILES_AT_ONCE.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

CHUNK_BYTES = 16 << 20
AT_ONCE = int(sys.argv[3])
CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    max_pool_connections=AT_ONCE * 4,
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
source, target = (boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=CONFIG) for url in sys.argv[1:3])
transfer = TransferConfig(multipart_threshold=CHUNK_BYTES, multipart_chunksize=CHUNK_BYTES, max_concurrency=4)


def copy(key: str) -> None:
    body = source.get_object(Bucket="flatfiles", Key=key)["Body"]
    target.upload_fileobj(body, "mirror", key, Config=transfer)


pages = source.get_paginator("list_objects_v2").paginate(Bucket="flatfiles")
keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
with ThreadPoolExecutor(AT_ONCE) as pool:
    list(pool.map(copy, keys))
