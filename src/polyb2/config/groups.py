"""Every setting, in its group: name of the variable, meaning, unit, range and default, once.

``.env.example`` and the table of ``docs/reference.md`` are made of this by ``python -m tests.reference``. In the code a
setting is called by its group and a plain name with its unit: ``settings.run.stall_timeout_s``.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from polyb2.config import kinds
from polyb2.core.errors import UsageError
from polyb2.core.parts import PART_BYTES_MAX, PART_BYTES_MIN
from polyb2.core.prices import DEFAULT_PRICES, Prices, parse_prices
from polyb2.core.retry import FILE_BACKOFF_MAX_S
from polyb2.core.schedule import NO_LIMIT

_B2_HOST = re.compile(r"^s3\.([a-z0-9-]+)\.backblazeb2\.com$")
_YEAR_S = 366 * 86_400
_SECONDS_MIN = 0.1
_NO_SECRET = SecretStr("")


@dataclass(frozen=True, slots=True)
class Variable:
    """A setting as a user knows it.

    Attributes:
        name: of the environment variable.
        words: its meaning, for ``.env.example`` and the reference.
        alias: another name; taken where ``name`` is not set.
        option: of the command line, where it has one.
        required: without it, no command reaches the side.
        default: in words, where the code computes it.
        may_be_empty: an empty value is one, and does not mean "not set".
    """

    name: str
    words: str
    alias: str = ""
    option: str = ""
    required: bool = False
    default: str = ""
    may_be_empty: bool = False


class Group(BaseModel):
    """A group of settings; its docstring is its heading."""

    model_config = ConfigDict(hide_input_in_errors=True)


# A table: its layout is by hand, a line for the kind and one for the meaning.
# fmt: off
class SourceSettings(Group):
    """The source: Polygon.io (Massive) flat files."""

    access_key_id: Annotated[kinds.Name, Variable("POLYGON_S3_ACCESS_KEY_ID",
        "Access Key ID of the flat files, a UUID from the dashboard (it is not the key of the REST API).",
        alias="MASSIVE_S3_ACCESS_KEY_ID", required=True)] = ""
    secret_access_key: Annotated[kinds.Secret, Variable("POLYGON_S3_SECRET_ACCESS_KEY",
        "Secret Access Key of the flat files.", alias="MASSIVE_S3_SECRET_ACCESS_KEY", required=True)] = _NO_SECRET
    endpoint_url: Annotated[kinds.Endpoint, Variable("POLYGON_S3_ENDPOINT_URL",
        "Endpoint; https unless it says otherwise, http:// for loopback only.")] = "https://files.massive.com"
    bucket: Annotated[kinds.Bucket, Variable("POLYGON_S3_BUCKET",
        "Bucket; the vendor has this one only.")] = "flatfiles"


class TargetSettings(Group):
    """The target: Backblaze B2."""

    key_id: Annotated[kinds.Name, Variable("B2_KEY_ID",
        "Key ID of an application key (the master key does not work with the S3 API). It needs listBuckets, "
        "listFiles, readFiles, writeFiles and deleteFiles on the bucket.", required=True)] = ""
    application_key: Annotated[kinds.Secret, Variable("B2_APPLICATION_KEY",
        "The application key itself.", required=True)] = _NO_SECRET
    bucket: Annotated[kinds.Bucket, Variable("B2_BUCKET_NAME",
        "Bucket to mirror into.", required=True)] = ""
    endpoint_url: Annotated[kinds.Endpoint, Variable("B2_ENDPOINT_URL",
        "Endpoint as the bucket's page shows it, for example s3.us-west-004.backblazeb2.com; with or without "
        "https://.", required=True)] = ""
    region: Annotated[kinds.Region, Variable("B2_REGION",
        "Region that requests are signed for.", default="from the endpoint's host, else us-east-1")] = ""
    key_prefix: Annotated[kinds.Prefix, Variable("B2_KEY_PREFIX",
        "Put in front of every key, for example mirror/; it ends in one slash.",
        default="nothing, keys are the source's", may_be_empty=True)] = ""

    @property
    def region_of_host(self) -> str | None:
        """The region that B2's endpoint names; None for other hosts."""
        match = _B2_HOST.match(urlsplit(self.endpoint_url).hostname or "")
        return match[1] if match else None

    @model_validator(mode="after")
    def _region_of_the_host(self) -> TargetSettings:
        self.region = self.region or self.region_of_host or "us-east-1"
        return self


class DiscoverySettings(Group):
    """The datasets, and discovery."""

    datasets: Annotated[kinds.Datasets, Variable("POLYB2_DATASETS",
        "Datasets, comma-separated; globs like us_stocks_sip/* or */day_aggs_v1, where * never crosses the slash.",
        option="--dataset")] = ("us_stocks_sip/day_aggs_v1", "us_options_opra/day_aggs_v1")
    max_plan_bytes: Annotated[int, kinds.size(0, 10**18), Variable("POLYB2_MAX_PLAN_BYTES",
        "Bytes that one discovery may queue for transfer without --yes or a yes at the prompt.")] = 10**12
    price_table: Annotated[str, Variable("POLYB2_PRICES",
        "Prices of B2, for polyb2 plan: money for a TB and 30 days, bytes that are free, money for 1,000 requests "
        "of a class.")] = DEFAULT_PRICES
    poll_interval_s: Annotated[float, kinds.duration(_SECONDS_MIN, _YEAR_S), Variable("POLYB2_POLL_INTERVAL",
        "Time between two listings of --watch.")] = 900.0

    @property
    def prices(self) -> Prices:
        """The price table, read when it is asked for: a price that cannot be read is no reason not to mirror.

        Raises:
            UsageError: it does not parse.
        """
        try:
            return parse_prices(self.price_table)
        except ValueError as error:
            raise UsageError(f"POLYB2_PRICES: {error}") from None


def default_worker_id() -> str:
    """Host, pid and a random part: never the same for two processes."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class LedgerSettings(Group):
    """The ledger."""

    url: Annotated[kinds.Database, Variable("DATABASE_URL",
        "The ledger; sqlite:/// and a path, relative to the working directory (sqlite:////data/x.db is absolute). Of a fleet"
        " of hosts (docs/fleet.md) postgresql://user:password@host/database and any setting of libpq, such as"
        " ?sslmode=verify-full&sslrootcert=system; special characters of the password like %40 for @. Needs psycopg"
        " (requirements/postgres.txt).",
    )] = "sqlite:///data/polyb2.db"
    worker_id: Annotated[kinds.WorkerId, Variable("WORKER_ID",
        "Name of this process in the ledger. Two processes must not share one.",
        default="host, pid and a random part")] = Field(default_factory=default_worker_id)
    lease_s: Annotated[float, kinds.duration(1, _YEAR_S), Variable("POLYB2_LEASE_SECONDS",
        "Time for which a claim outlives the last sign of life of its process.")] = 60.0


class RunSettings(Group):
    """Streams, retries and waiting."""

    concurrency: Annotated[int, kinds.whole(1, 1024), Variable("POLYB2_CONCURRENCY",
        "Streams of this process: range reads that are joined to part uploads at the same time.",
        option="--concurrency")] = 32
    part_bytes: Annotated[int | None, kinds.size(PART_BYTES_MIN, PART_BYTES_MAX), Variable("POLYB2_PART_SIZE",
        "Bytes of a part.", default="automatic, from the file's size and the source's own parts")] = None
    max_retries: Annotated[int, kinds.whole(0, 1000), Variable("POLYB2_MAX_RETRIES",
        "Charged retries of a file; the failure after the last one parks it as permanent_failure.")] = 2
    part_tries: Annotated[int, kinds.whole(1, 100), Variable("POLYB2_PART_TRIES",
        "Tries of one request within an attempt.")] = 10
    retry_base_s: Annotated[float, kinds.duration(0.001, FILE_BACKOFF_MAX_S), Variable("POLYB2_RETRY_BASE",
        "First back-off of a failed file; it doubles with each charged retry.")] = 30.0
    stall_timeout_s: Annotated[float, kinds.duration(_SECONDS_MIN, _YEAR_S), Variable("POLYB2_STALL_TIMEOUT",
        "A stream that moves no byte for this long, as the sockets take them, is begun again; doctor and datasets "
        "--probe end within three of it.")] = 60.0
    give_up_s: Annotated[float, kinds.duration(_SECONDS_MIN, _YEAR_S), Variable("POLYB2_GIVE_UP",
        "Without --watch, end (exit 4) when a cap or an outage of a whole side lasts this long.")] = 900.0
    drain_s: Annotated[float, kinds.duration(0, _YEAR_S), Variable("POLYB2_DRAIN_SECONDS",
        "Time that running parts have to end after SIGTERM, SIGINT or SIGHUP.")] = 25.0


class LimitSettings(Group):
    """Limits of speed."""

    bandwidth: Annotated[kinds.Bandwidth, Variable("POLYB2_MAX_BANDWIDTH",
        "Bytes per second of all that share the ledger, together; 0 is no limit. By the clock as well: "
        "08:00-18:00=50M,*=0 in local time (TZ), or with a zone in front, America/New_York 09:30-16:00=20M; * is the "
        "rest of the day. It changes without a restart.", option="--max-bandwidth")] = NO_LIMIT
    source_rps: Annotated[float, kinds.number(0.001, 1e6, "no limit"), Variable("POLYB2_SOURCE_RPS",
        "Requests per second to the source, of all that share the ledger.")] = 0
    target_rps: Annotated[float, kinds.number(0.001, 1e6, "no limit"), Variable("POLYB2_B2_RPS",
        "Requests per second to B2, of all that share the ledger.")] = 0


class PageSettings(Group):
    """The page, metrics and health."""

    address: Annotated[kinds.Address, Variable("POLYB2_HTTP_ADDR",
        "host:port of page, metrics and health while run or sync is up; set to nothing it is off. There is no "
        "password: anybody who reaches it may look.", may_be_empty=True)] = "127.0.0.1:9750"
    hosts: Annotated[kinds.HostNames, Variable("POLYB2_HTTP_HOSTS",
        "Host names under which the page answers, comma-separated, such as mirror.lan; loopback's names and IP "
        "addresses always do.")] = []


class NotifySettings(Group):
    """Notifications."""

    urls: Annotated[kinds.NotifyUrls, Variable("POLYB2_NOTIFY_URLS",
        "URLs of apprise to notify, comma-separated, such as mailto://... or slack://...; treated as secrets. Needs"
        " apprise (requirements/notify.txt).")] = []
    ping_url: Annotated[kinds.PingUrl | None, Variable("POLYB2_PING_URL",
        "URL of a dead-man monitor (healthchecks.io and the like): asked after each cycle that went well, /fail "
        "after others; treated as a secret.")] = None


class LogSettings(Group):
    """Log lines."""

    level: Annotated[kinds.LogLevel, Variable("LOG_LEVEL",
        "Lines that are less important are left out.")] = "INFO"
    format: Annotated[kinds.LogFormat, Variable("POLYB2_LOG_FORMAT",
        "For people, or for programs: an object a line on stderr (docs/operations.md lists events and fields).",
        option="--log-format")] = "text"
