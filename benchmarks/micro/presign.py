"""What one presigned URL costs: ours, and botocore's, whose result it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks.scenarios import Options
from benchmarks.tables import table
from polyb2.remote.signing import Presigner

CALLS = 5_000
_ENDPOINT = "https://s3.us-west-004.backblazeb2.com"
_KEY = "us_options_opra/quotes_v1/2024/01/2024-01-02.csv.gz"
_QUERY = {"partNumber": "17", "uploadId": "4_z27c88f1d182b150646ff0b16_f200ec353a2184825"}


def presign(options: Options) -> str:
    """CPU microseconds a URL."""
    calls = max(100, int(CALLS * options.scale))
    ours = Presigner(endpoint=_ENDPOINT, bucket="mirror", region="us-west-004", key_id="key", secret="secret")  # noqa: S106
    theirs = S3SigV4QueryAuth(Credentials("key", "secret"), "s3", "us-west-004", expires=3600)
    url = f"{_ENDPOINT}/mirror/{_KEY}?" + "&".join(f"{name}={value}" for name, value in _QUERY.items())
    rows = [
        ["polyb2", f"{_cost_us(lambda: ours.presign('PUT', _KEY, query=_QUERY), calls):.1f}"],
        ["botocore", f"{_cost_us(lambda: theirs.add_auth(AWSRequest('PUT', url)), calls):.1f}"],
    ]
    return f"{calls:,} URLs of UploadPart, each.\n\n{table(['signer', 'CPU µs a URL'], rows)}"


def _cost_us(sign: Callable[[], object], calls: int) -> float:
    sign()
    began_s = time.process_time()
    for _ in range(calls):
        sign()
    return (time.process_time() - began_s) / calls * 1e6
