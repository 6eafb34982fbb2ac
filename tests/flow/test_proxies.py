"""A real nginx before the target, with its defaults: the messages name what it drops and refuses."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator

import pytest

from polyb2.core.errors import AccountStoppedError
from polyb2.doctor.examine import examine
from polyb2.sandbox import GeneratedGzip
from tests.conftest import MIB, QUOTES, Bench, key

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
SMALL, LARGE = key("2024-01-02"), key("2024-01-03", QUOTES)
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    {more}
    location / {{ proxy_pass {target}; proxy_set_header Host $http_host; proxy_http_version 1.1; }}
  }}
}}
"""
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (tools/install-test-servers.sh)")


@pytest.fixture(params=[""])
async def proxied(bench: Bench, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """The bench, with nginx before its target; the parameter is more of its configuration."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = bench.folder / "nginx"
    folder.mkdir()
    text = CONFIGURATION.format(folder=folder, port=port, target=bench.box.target.endpoint_url, more=request.param)
    (folder / "nginx.conf").write_text(text)
    process = await asyncio.create_subprocess_exec(
        str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while not await _listens(port):
                await asyncio.sleep(0.02)
        bench.settings["b2_endpoint_url"] = f"http://127.0.0.1:{port}"
        yield bench
    finally:
        process.terminate()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_headers_that_a_proxy_drops_are_no_matter_of_keys(proxied: Bench) -> None:
    """Its default drops names with an underscore, and one of ours is signed: LIST and HEAD work, each PUT is 403."""
    proxied.box.source.put(SMALL, b"x")
    await proxied.discover()
    with pytest.raises(AccountStoppedError, match="drops or changes signed headers") as caught:
        await proxied.run()
    assert "B2_KEY_ID" not in str(caught.value)
    row = await proxied.row(SMALL)
    assert (row["status"], row["retry_count"]) == ("pending", 0)
    checks = {check.name: check for check in (await examine(proxied.configured())).checks}
    assert "drops or changes signed headers" in checks["target.put"].advice
    assert "B2_KEY_ID" not in checks["target.put"].advice


@pytest.mark.parametrize("proxied", ["underscores_in_headers on;"], indirect=True)
async def test_a_body_that_a_proxy_refuses_is_told_as_that(proxied: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its default takes 1 MB: the small file passes, and the parts of the large one do not."""
    proxied.hurry(probe_first_s=0.05)
    proxied.box.source.put(SMALL, b"x")
    proxied.box.source.put(LARGE, GeneratedGzip(6 * MIB))
    with pytest.raises(AccountStoppedError, match=r"answered 413 with a web page.*POLYB2_PART_SIZE"):
        await proxied.mirror_all(polyb2_give_up=1.0)
    proxied.assert_mirrored(SMALL)
    assert (await proxied.row(LARGE))["retry_count"] == 0
