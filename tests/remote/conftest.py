"""Both stores over every kind of server: the sandbox, OpenStack Swift's s3api, and (`make test-ceph`) Ceph's gateway."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from polyb2.core.errors import Side
from polyb2.core.records import ListedObject, Revision
from polyb2.core.retry import RequestPolicy
from polyb2.remote.b2 import Target
from polyb2.remote.bucket import Bucket
from polyb2.remote.guard import Fence, Guard
from polyb2.remote.polygon import Source
from polyb2.remote.sessions import Account, Http, open_client
from polyb2.sandbox import Sandbox
from tests.ceph import CephServer
from tests.swift import SwiftServer

POLICY = RequestPolicy(tries=2, first_s=0.01)
PREFIX = "mirror of/"


@dataclass
class Stores:
    """A source with a way to publish objects in it, and an empty target."""

    source: Source
    target: Target
    publish: Callable[[str, bytes], Awaitable[None]]

    def fenced(self, fence: Fence) -> Stores:
        """Both sides for requests that may only begin while ``fence`` lets them."""
        return Stores(self.source.fenced(fence), self.target.fenced(fence), self.publish)

    async def revision(self, key: str) -> Revision:
        listed = await self.source.stat(key)
        assert isinstance(listed, ListedObject)
        return Revision(1, listed.etag, listed.size, listed.last_modified_ms)


@pytest.fixture
async def once(box: Sandbox) -> AsyncIterator[Stores]:
    """Both stores over the sandbox; a request is tried once."""
    async for made in _of_sandbox(box, "", RequestPolicy(tries=1)):
        yield made


@pytest.fixture(params=["sandbox", "swift", pytest.param("ceph", marks=pytest.mark.ceph)])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param != "sandbox":
        async for made in _real(request.getfixturevalue(request.param)):
            yield made
        return
    async with Sandbox() as box:
        async for made in _of_sandbox(box, PREFIX, POLICY):
            yield made


async def _of_sandbox(box: Sandbox, prefix: str, policy: RequestPolicy) -> AsyncIterator[Stores]:
    source = Account(
        box.source.endpoint_url, box.source.bucket, "us-east-1", box.source.access_key, box.source.secret_key
    )
    target = Account(
        box.target.endpoint_url, box.target.bucket, "us-west-004", box.target.access_key, box.target.secret_key
    )

    async def publish(key: str, data: bytes) -> None:
        box.source.put(key, data)

    async for made in _stores(source, target, publish, prefix, policy):
        yield made


async def _real(server: SwiftServer | CephServer) -> AsyncIterator[Stores]:
    buckets = [f"t-{uuid.uuid4().hex[:12]}" for _ in range(2)]
    accounts = [
        Account(server.endpoint_url, bucket, server.region, server.access_key, server.secret_key) for bucket in buckets
    ]
    async with open_client(accounts[0]) as client:
        for bucket in buckets:
            await client.create_bucket(Bucket=bucket)
        await client.put_bucket_versioning(Bucket=buckets[1], VersioningConfiguration={"Status": "Enabled"})

        async def publish(key: str, data: bytes) -> None:
            await client.put_object(Bucket=buckets[0], Key=key, Body=data)

        async for made in _stores(accounts[0], accounts[1], publish, PREFIX, POLICY):
            yield made


async def _stores(
    source: Account,
    target: Account,
    publish: Callable[[str, bytes], Awaitable[None]],
    prefix: str,
    policy: RequestPolicy,
) -> AsyncIterator[Stores]:
    async with open_client(source) as ours, open_client(target) as theirs, Http(source.endpoint) as http:
        yield Stores(
            Source(Bucket(source, ours, http, Guard(Side.SOURCE, policy, 0, 60.0))),
            Target(Bucket(target, theirs, http, Guard(Side.TARGET, policy, 0, 60.0)), prefix),
            publish,
        )
