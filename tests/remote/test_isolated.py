"""Nothing of AWS's surroundings is read: no variable, no file, whatever they hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polyb2.remote import sessions
from polyb2.remote.isolated import IsolatedSession
from polyb2.remote.sessions import Account, open_client
from polyb2.sandbox import Sandbox
from tests.conftest import key

HOSTILE = {
    "AWS_PROFILE": "work",
    "AWS_DEFAULT_PROFILE": "work",
    "AWS_RETRY_MODE": "bananas",
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_DEFAULTS_MODE": "bananas",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_CA_BUNDLE": "/nowhere.pem",
    "REQUESTS_CA_BUNDLE": "/nowhere.pem",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "bananas",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "bananas",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "bananas",
    "AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES": "-1",
    "AWS_DISABLE_REQUEST_COMPRESSION": "bananas",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "bananas",
    "AWS_S3_USE_ARN_REGION": "bananas",
    "AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS": "bananas",
    "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH": "bananas",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "bananas",
    "AWS_SIGV4A_SIGNING_REGION_SET": "bananas",
    "AWS_AUTH_SCHEME_PREFERENCE": "httpBearerAuth",
    "AWS_BEARER_TOKEN_S3": "token",
    "AWS_SDK_UA_APP_ID": "x" * 500,
    "AWS_EXECUTION_ENV": "a\r\nb",
    "AWS_LAMBDA_FUNCTION_NAME": "x",
    "_X_AMZN_TRACE_ID": "a\r\nb",
    "AWS_CSM_ENABLED": "true",
    "AWS_CSM_PORT": "many",
    "AWS_REGION": "nowhere",
    "AWS_DEFAULT_REGION": "not a region",
    "AWS_ACCESS_KEY_ID": "another",
    "AWS_SECRET_ACCESS_KEY": "another",
    "AWS_SESSION_TOKEN": "another",
    "AWS_METADATA_SERVICE_TIMEOUT": "many",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
    "AWS_CREDENTIAL_FILE": "/nowhere",
    "BOTO_CONFIG": "/nowhere",
    "BOTOCORE_EXPERIMENTAL__PLUGINS": "bananas",
}
CONFIG = "[default]\ns3 =\n  use_accelerate_endpoint = true\n  addressing_style = virtual\nretry_mode = bananas\n"


@pytest.fixture(autouse=True)
def _new_session() -> None:
    sessions._boto_session.cache_clear()


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home whose files of AWS would break or bend everything."""
    folder = tmp_path / "home"
    models = folder / ".aws" / "models" / "s3" / "2006-03-01"
    models.mkdir(parents=True)
    (models / "service-2.json").write_text("{broken", encoding="utf-8")
    (folder / ".aws" / "config").write_text(CONFIG, encoding="utf-8")
    (folder / ".aws" / "credentials").write_text("[broken", encoding="utf-8")
    (folder / ".boto").write_text("[broken", encoding="utf-8")
    monkeypatch.setenv("HOME", str(folder))
    return folder


async def _listed(box: Sandbox) -> list[str]:
    facts = box.environment()
    names = ("POLYGON_S3_ENDPOINT_URL", "POLYGON_S3_BUCKET")
    keys = (facts["POLYGON_S3_ACCESS_KEY_ID"], facts["POLYGON_S3_SECRET_ACCESS_KEY"])
    endpoint, bucket = (facts[name] for name in names)
    async with open_client(Account(endpoint, bucket, "us-east-1", *keys)) as client:
        return [found["Key"] for found in (await client.list_objects_v2(Bucket=bucket))["Contents"]]


async def test_no_variable_of_aws_changes_anything(box: Sandbox, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once; the watch below tells apart what they could have changed."""
    box.source.put(key("2024-01-02"), b"x")
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    assert await _listed(box) == [key("2024-01-02")]


async def test_not_even_what_is_not_asked_for_would_be_taken_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """polyb2 names keys, region and endpoint always; a session without them finds none."""
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    session = IsolatedSession()
    assert await session.get_credentials() is None
    assert session.get_config_variable("region") is None
    async with session.create_client("s3", "r1", aws_access_key_id="key", aws_secret_access_key="secret") as client:
        assert client.meta.endpoint_url == "https://s3.r1.amazonaws.com"


PROBE = """
import asyncio, json, os, sys

asked, opened = [], []
LOOKS = {"open", "os.listdir", "os.scandir"}


class Watched(type(os.environ)):
    def __getitem__(self, name):
        asked.append(name)
        return super().__getitem__(name)

    def items(self):
        return [(name, super(Watched, self).__getitem__(name)) for name in self]


from polyb2.remote.sessions import Account, open_client

os.environ.__class__ = Watched
sys.addaudithook(lambda event, words: opened.append(str(words[0])) if event in LOOKS else None)


async def main():
    async with open_client(Account("http://127.0.0.1:1", "bucket", "us-east-1", "key", "secret")) as client:
        try:
            await client.list_objects_v2(Bucket="bucket")
        except Exception as error:
            problem = type(error).__name__
    os.environ.get("THE_WATCH_WORKS")
    print(json.dumps([problem, asked, opened]))


asyncio.run(main())
"""


def test_no_variable_of_aws_is_looked_up_and_no_file_of_the_home_opened(home: Path) -> None:
    """By watching, so that what a newer botocore learns to read fails here."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **HOSTILE, "HOME": str(home)},
    )
    problem, asked, opened = json.loads(done.stdout)
    assert problem == "ClientConnectorError"
    assert "THE_WATCH_WORKS" in asked
    assert [name for name in asked if name.startswith(("AWS", "_X_", "BOTO_CONFIG", "BOTOCORE", "REQUESTS"))] == []
    assert [path for path in opened if path.startswith(str(home))] == []
