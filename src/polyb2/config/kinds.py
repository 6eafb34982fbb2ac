"""Kinds of values that a setting can have: read from text, checked, and refused in plain words that say what to write.

All checks are ours, so that no sentence of a library reaches a user. Invariant: a refusal is a ``ValueError``, and it repeats
no value that may hold a key.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from polyb2.clock import time_zone
from polyb2.core.hosts import is_address, is_loopback
from polyb2.core.keys import check_pattern
from polyb2.core.logevents import FORMATS, LEVELS
from polyb2.core.schedule import Schedule, parse_schedule
from polyb2.core.units import (
    OneOf,
    Within,
    parse_duration,
    parse_number,
    parse_size,
    parse_whole,
    write_duration,
    write_size,
)
from polyb2.ledger.open import check_url

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
_SHOWN_MAX = 100
_NAME_MAX = 1024
_WORKER_ID_MAX = 200
_PREFIX_BYTES_MAX = 800


def whole(least: int, most: int) -> BeforeValidator:
    return BeforeValidator(Within(least, most, parse_whole, name="a whole number"))


def number(least: float, most: float, zero: str) -> BeforeValidator:
    return BeforeValidator(Within(least, most, parse_number, name="a number", zero=zero))


def size(least: int, most: int) -> BeforeValidator:
    return BeforeValidator(Within(least, most, parse_size, write_size))


def duration(least_s: float, most_s: float) -> BeforeValidator:
    return BeforeValidator(Within(least_s, most_s, parse_duration, write_duration))


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
    """A host that both HTTP stacks take: an address of either family, or a name of the domain system."""
    labels = host.removesuffix(".").split(".")
    if host.startswith("[") or labels[-1].isdecimal():
        return is_address(host)
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


def _name(value: str, most: int = _NAME_MAX) -> str:
    """A key, id or name: without the white space that a copied one or a mounted secret has around it, and with none in it."""
    value = value.strip()
    for character in value:
        if character.isspace() or not character.isprintable():
            what = f"U+{ord(character):04X}"
            raise ValueError(f"holds white space or a control character inside ({what}): copy it again, in one piece")
    if len(value) > most:
        raise ValueError(f"is longer than {most} characters: copy it again, alone")
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
    with suppress(ValueError):  # of the library, whose words may repeat it
        parts = urlsplit(value.get_secret_value())
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return value
    raise ValueError("is not a URL: write https://hc-ping.com/... as the monitor shows it")


def _items(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("names no dataset: write us_stocks_sip/day_aggs_v1 or a glob like us_stocks_sip/*")
    return tuple(dict.fromkeys(map(check_pattern, value)))


def _address(value: str) -> str:
    """``host:port`` to listen on, where the host is a name, an address of either family, or ``*``; or nothing."""
    host, _, port = value.rpartition(":")
    is_host = host == "*" or (len(host) <= _HOST_MAX and (_HOST_NAME.fullmatch(host) or is_address(host)))
    if value and not (is_host and _PORT.fullmatch(port) and int(port) < 1 << 16):
        raise ValueError(
            f"{value[:_SHOWN_MAX]!r} is not an address: write 127.0.0.1:9750, or leave it empty to turn it off"
        )
    return value


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


LogLevel = Annotated[str, BeforeValidator(OneOf(LEVELS))]
LogFormat = Annotated[str, BeforeValidator(OneOf(FORMATS))]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Name = Annotated[str, AfterValidator(_name)]
WorkerId = Annotated[str, AfterValidator(lambda value: _name(value, _WORKER_ID_MAX))]
Bucket = Annotated[Name, AfterValidator(_bucket)]
Region = Annotated[Name, AfterValidator(_region)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
Database = Annotated[str, AfterValidator(check_url)]
Datasets = Annotated[tuple[str, ...], BeforeValidator(_items), AfterValidator(_patterns)]
Bandwidth = Annotated[Schedule, BeforeValidator(_bandwidth)]
Address = Annotated[str, AfterValidator(_address)]
HostNames = Annotated[list[str], BeforeValidator(_items), AfterValidator(_host_names)]
NotifyUrls = Annotated[list[SecretStr], BeforeValidator(_items)]
PingUrl = Annotated[SecretStr, AfterValidator(_web)]
