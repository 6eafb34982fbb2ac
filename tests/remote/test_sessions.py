"""The control client: signs for the configured region, at the configured endpoint, with little in memory."""

from __future__ import annotations

import pytest
from botocore.loaders import Loader

from polyb2.remote import sessions
from polyb2.remote.sessions import Account, open_client


@pytest.fixture(autouse=True)
def _new_session() -> None:
    sessions._boto_session.cache_clear()


@pytest.mark.parametrize("region", ["us-east-1", "us-west-004", "eu-central-003", "cn-north-1", "auto", "r1"])
async def test_any_region_signs_at_the_endpoint_that_is_named(region: str) -> None:
    async with open_client(Account("http://127.0.0.1:9", "bucket", region, "key", "secret")) as client:
        url = await client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "a/b"})
    assert url.startswith("http://127.0.0.1:9/bucket/a/b?")
    assert f"%2F{region}%2Fs3%2Faws4_request" in url


async def test_the_host_names_of_aws_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are 7 MB in memory; a botocore that needs them after all fails here, not at a user's."""
    read: list[str] = []
    load = Loader.load_data_with_path

    def noted(self: Loader, name: str) -> object:
        read.append(name)
        return load(self, name)

    monkeypatch.setattr(Loader, "load_data_with_path", noted)
    async with open_client(Account("http://127.0.0.1:9", "bucket", "us-west-004", "key", "secret")):
        pass
    assert any("service-2" in name for name in read)
    assert "endpoints" not in read
