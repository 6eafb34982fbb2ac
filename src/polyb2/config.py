"""The settings: every knob with its unit, range and reason; command line over environment over ``.env`` over default.

A wrong setting is one clear line, and all wrong ones are told at once. Secrets are ``SecretStr`` and never printed.
``.env.example`` lists the same settings; ``tests/test_config.py`` compares the two.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from polyb2.clock import time_zone
from polyb2.core.errors import UsageError
from polyb2.core.hosts import is_loopback
from polyb2.core.keys import check_pattern
from polyb2.core.parts import PART_BYTES_MAX, PART_BYTES_MIN
from polyb2.core.prices import DEFAULT_PRICES, Prices, parse_prices
from polyb2.core.retry import FILE_BACKOFF_MAX_S
from polyb2.core.schedule import NO_LIMIT, Schedule, parse_schedule
from polyb2.core.scrub import hide
from polyb2.core.units import parse_duration, parse_size
from polyb2.ledger.open import check_url
from polyb2.variables import notices, of_dotenv, of_environment

_B2_HOST = re.compile(r"^s3\.([a-z0-9-]+)\.backblazeb2\.com$")
_ENDPOINT = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/?", re.IGNORECASE
)
_HOST_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.IGNORECASE)
"""Of an endpoint, as the S3 library takes it: without the ``_`` that names of the page may have."""
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_REGION = re.compile(r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{1,5}")
_HOST_MAX = 253
_RENAMED = ("polygon_s3_access_key_id", "polygon_s3_secret_access_key")
_SHOWN_MAX = 100
_YEAR_S = 366 * 86_400
_SECONDS_MIN = 0.1
_BACKOFF_MIN_S = 0.001
_RPS_MIN, _RPS_MAX = 0.001, 1e6
_NAME_MAX = 1024
_PREFIX_BYTES_MAX = 800
_MAY_BE_EMPTY = {"polyb2_http_addr", "b2_key_prefix"}


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _endpoint(value: str) -> str:
    """An endpoint as ``scheme://host[:port]``; https unless it says otherwise, http for loopback only."""
    if "@" in value:
        raise ValueError("holds keys: write the host only, the keys are settings of their own")
    match = _ENDPOINT.fullmatch(value.strip())
    if match is None or int(match["port"] or 443) not in range(1, 1 << 16) or not _is_host(match["host"]):
        raise ValueError(f"{value[:_SHOWN_MAX]!r} is not an endpoint: write a host like s3.us-west-004.backblazeb2.com")
    scheme = (match["scheme"] or "https").lower()
    if scheme == "http" and not is_loopback(match["host"].strip("[]")):
        raise ValueError(f"{value!r} would send keys in the clear: write https:// (http:// is for loopback only)")
    return f"{scheme}://{match['host'].lower()}{':' + match['port'] if match['port'] else ''}"


def _is_host(host: str) -> bool:
    """Whether it is a host that both HTTP stacks take: an address of either family, or a name of the domain system."""
    labels = host.removesuffix(".").split(".")
    if host.startswith("[") or labels[-1].isdecimal():
        return _is_address(host)
    return len(host) <= _HOST_MAX and all(_HOST_LABEL.fullmatch(label) for label in labels)


def _prefix(value: str) -> str:
    """A key prefix that is empty or ends in exactly one slash."""
    if value.startswith("/"):
        raise ValueError("starts with a slash: keys in B2 do not; write mirror/ or leave it empty")
    bare = value.rstrip("/")
    if not bare:
        return ""
    if not bare.isprintable():
        raise ValueError(f"{value[:_SHOWN_MAX]!r} holds control characters: write a name like mirror/")
    for segment in bare.split("/"):
        if segment in {"", ".", ".."}:
            what = repr(segment) if segment else "two slashes in a row"
            raise ValueError(
                f"{value[:_SHOWN_MAX]!r} holds {what}, which tools take for a path: write a name like mirror/"
            )
    if len(bare.encode()) > _PREFIX_BYTES_MAX:
        raise ValueError(f"is longer than {_PREFIX_BYTES_MAX} bytes: a whole key in B2 has 1024 at most")
    return f"{bare}/"


def _name(value: str) -> str:
    """A key, id or name: without the white space that a copied one or a mounted secret has around it, and with none in it."""
    value = value.strip()
    for character in value:
        if character.isspace() or not character.isprintable():
            what = f"U+{ord(character):04X}"
            raise ValueError(f"holds white space or a control character inside ({what}): copy it again, in one piece")
    if len(value) > _NAME_MAX:
        raise ValueError(f"is longer than {_NAME_MAX} characters: copy it again, alone")
    return value


def _bucket(value: str) -> str:
    """A bucket's name: the S3 library refuses others, in words of its own and not before the first request."""
    if not _BUCKET.fullmatch(value) or value in {".", ".."}:
        raise ValueError(f"{value[:_SHOWN_MAX]!r} is not a bucket's name: write letters, digits and . _ - only")
    return value


def _region(value: str) -> str:
    if not _REGION.fullmatch(value):
        raise ValueError(f"{value[:_SHOWN_MAX]!r} is not a region: write one like us-west-004")
    return value


def _secret(value: SecretStr) -> SecretStr:
    return SecretStr(_name(value.get_secret_value()))


def _web(value: SecretStr) -> SecretStr:
    """A URL that a GET can be sent to; it is its own secret, so that it is not repeated."""
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:  # which raises where it is none
        raise ValueError("is not a URL: write https://hc-ping.com/... as the monitor shows it")
    return value


def _words(value: object) -> object:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _patterns(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("names no dataset: write us_stocks_sip/day_aggs_v1 or a glob like us_stocks_sip/*")
    return [check_pattern(pattern) for pattern in value]


def _address(value: str) -> str:
    """``host:port`` to listen on, where the host is a name, an address of either family, or ``*``; or nothing."""
    host, _, port = value.rpartition(":")
    is_host = host == "*" or (len(host) <= _HOST_MAX and (_HOST_NAME.fullmatch(host) or _is_address(host)))
    if value and not (is_host and _PORT.fullmatch(port) and int(port) < 1 << 16):
        raise ValueError(
            f"{value[:_SHOWN_MAX]!r} is not an address: write 127.0.0.1:9750, or leave it empty to turn it off"
        )
    return value


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
        return True
    return False


def _host_names(value: list[str]) -> list[str]:
    for name in value:
        if _HOST_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not a host name: write mirror.lan or polyb2, without scheme and port")
    return [name.lower() for name in value]


def _bandwidth(value: object) -> object:
    if isinstance(value, int | str):
        value = parse_schedule(str(value))
    if isinstance(value, Schedule) and value.zone is not None:
        time_zone(value.zone)
    return value


def _rate(value: float) -> float:
    """Requests a second: none, or a figure by which something moves and which is a limit."""
    if value and not _RPS_MIN <= value <= _RPS_MAX:  # NaN is neither
        raise ValueError(f"{value:g} is no limit: write {_RPS_MIN:g} to {_RPS_MAX:,.0f} requests a second, 0 for none")
    return value


Size = Annotated[int, BeforeValidator(_size), Field(ge=0, le=10**18)]
Seconds = Annotated[float, BeforeValidator(_duration), Field(ge=_SECONDS_MIN, le=_YEAR_S)]
Rate = Annotated[float, AfterValidator(_rate)]
Bandwidth = Annotated[Schedule, NoDecode, BeforeValidator(_bandwidth)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Name = Annotated[str, AfterValidator(_name)]
Bucket = Annotated[Name, AfterValidator(_bucket)]
Region = Annotated[Name, AfterValidator(_region)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]


def default_worker_id() -> str:
    """Host, pid and a random part: never the same for two processes."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class _Given(PydanticBaseSettingsSource):
    """Tidied variables, where empty means not set and the vendor's new names are taken for the ancestor's."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = {name.lower(): value for name, value in variables.items()}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the library's
        return self._variables.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        names = self.settings_cls.model_fields
        given = {name: self._variables[name] for name in names if name in self._variables}
        given = {name: value for name, value in given.items() if value or name in _MAY_BE_EMPTY}
        for old in _RENAMED:
            new = old.replace("polygon", "massive")
            if new in given:
                given.setdefault(old, given[new])
        return given


class Settings(BaseSettings):
    """All settings; see ``.env.example`` for what each means to a user."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    polygon_s3_access_key_id: Name | None = None
    polygon_s3_secret_access_key: Secret | None = None
    massive_s3_access_key_id: Name | None = None
    massive_s3_secret_access_key: Secret | None = None
    polygon_s3_endpoint_url: Endpoint = "https://files.massive.com"
    polygon_s3_bucket: Bucket = "flatfiles"
    b2_key_id: Name | None = None
    b2_application_key: Secret | None = None
    b2_bucket_name: Bucket | None = None
    b2_endpoint_url: Endpoint | None = None
    b2_region: Region | None = None
    b2_key_prefix: Annotated[str, AfterValidator(_prefix)] = ""
    database_url: Annotated[str, AfterValidator(check_url)] = "sqlite:///data/polyb2.db"
    worker_id: Name = Field(default_factory=default_worker_id, max_length=200)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    polyb2_log_format: Literal["text", "json"] = "text"

    polyb2_datasets: Annotated[list[str], NoDecode, BeforeValidator(_words), AfterValidator(_patterns)] = [
        "us_stocks_sip/day_aggs_v1",
        "us_options_opra/day_aggs_v1",
    ]
    polyb2_concurrency: int = Field(default=32, ge=1, le=1024)
    polyb2_part_size: Annotated[int, BeforeValidator(_size), Field(ge=PART_BYTES_MIN, le=PART_BYTES_MAX)] | None = None
    polyb2_max_retries: int = Field(default=2, ge=0, le=1000)
    polyb2_part_tries: int = Field(default=10, ge=1, le=100)
    polyb2_retry_base: Annotated[float, BeforeValidator(_duration), Field(ge=_BACKOFF_MIN_S, le=FILE_BACKOFF_MAX_S)] = (
        30.0
    )
    polyb2_max_bandwidth: Bandwidth = NO_LIMIT
    polyb2_source_rps: Rate = 0
    polyb2_b2_rps: Rate = 0
    polyb2_max_plan_bytes: Size = 10**12
    polyb2_prices: str = DEFAULT_PRICES
    polyb2_poll_interval: Seconds = 900.0
    polyb2_lease_seconds: Annotated[float, BeforeValidator(_duration), Field(ge=1, le=_YEAR_S)] = 60.0
    polyb2_stall_timeout: Seconds = 60.0
    polyb2_give_up: Seconds = 900.0
    polyb2_drain_seconds: Annotated[float, BeforeValidator(_duration), Field(ge=0, le=_YEAR_S)] = 25.0
    polyb2_http_addr: Annotated[str, AfterValidator(_address)] = "127.0.0.1:9750"
    polyb2_http_hosts: Annotated[list[str], NoDecode, BeforeValidator(_words), AfterValidator(_host_names)] = []
    polyb2_notify_urls: Annotated[list[SecretStr], NoDecode, BeforeValidator(_words)] = []
    polyb2_ping_url: Annotated[SecretStr, AfterValidator(_web)] | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Given(settings_cls, of_environment()), _Given(settings_cls, of_dotenv().values)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("polyb2_log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _region_of_the_host(self) -> Settings:
        if self.b2_region is None:
            self.b2_region = self.region_of_host or "us-east-1"
        return self

    @model_validator(mode="after")
    def _keys_are_never_shown(self) -> Settings:
        secrets = (self.polygon_s3_secret_access_key, self.b2_application_key)
        hide(
            self.polygon_s3_access_key_id, self.b2_key_id, *(secret.get_secret_value() for secret in secrets if secret)
        )
        return self

    @property
    def region_of_host(self) -> str | None:
        """The region that B2's endpoint names; None for other hosts."""
        match = _B2_HOST.match(urlsplit(self.b2_endpoint_url or "").hostname or "")
        return match[1] if match else None

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.polyb2_datasets))

    @property
    def prices(self) -> Prices:
        """``POLYB2_PRICES``, read when it is asked for: a price that cannot be read is no reason not to mirror.

        Raises:
            UsageError: it does not parse.
        """
        try:
            return parse_prices(self.polyb2_prices)
        except ValueError as error:
            raise UsageError(f"POLYB2_PRICES: {error}") from None

    def require_remote(self, *, source: bool = True, target: bool = True) -> None:
        """Check that the keys a command needs are there.

        Raises:
            UsageError: naming every missing setting at once.
        """
        needed: list[str] = []
        if source:
            needed += ["polygon_s3_access_key_id", "polygon_s3_secret_access_key"]
        if target:
            needed += ["b2_key_id", "b2_application_key", "b2_bucket_name", "b2_endpoint_url"]
        missing = [name.upper() for name in needed if not getattr(self, name)]
        if missing:
            raise UsageError("\n".join(f"{name} is not set: put it into the environment or .env" for name in missing))


def load_settings(**overrides: object) -> Settings:
    """The settings of this process; ``overrides`` are the command line's, where not None.

    Raises:
        UsageError: a line for each wrong setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise UsageError("\n".join(_lines(error.errors(include_url=False, include_input=False)))) from None


def setting_notices() -> list[str]:
    """What is to be said about the variables of this process, whatever their values."""
    return notices(Settings.model_fields)


def _lines(errors: Iterable[Any]) -> Iterable[str]:
    for error in errors:
        name = str(error["loc"][0]).upper() if error["loc"] else "settings"
        yield f"{name}: {str(error['msg']).removeprefix('Value error, ')}"
