"""The proxy for a URL, by the usual variables, for everything that this process opens: both HTTP stacks and the heartbeat.

Invariant: it is decided here and nowhere else. aiohttp's ``trust_env`` looks it up for each request, on a thread, and sends
the credentials of .netrc for the host; botocore's own reading fails on values that curl takes. Loopback never has a proxy.
"""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from polyb2.core.errors import UsageError
from polyb2.core.hosts import is_loopback

_PORTS = {"https": 443, "http": 80}


def proxy_of(url: str) -> URL | None:
    """The proxy that the environment configures for a URL, with its login; a login is a secret.

    Raises:
        UsageError: the variable is not the URL of an HTTP proxy.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    given = getproxies()
    for scheme in (parts.scheme, "all"):
        if words := given.get(scheme, "").strip():
            if is_loopback(host) or _bypassed(host, parts.port or _PORTS[parts.scheme], given):
                return None
            return _parsed(words, _variable(scheme))
    return None


def _bypassed(host: str, port: int, given: dict[str, str]) -> bool:
    """Tell if ``NO_PROXY`` covers the host: by name, by suffix, with a port, by address, or by network."""
    if proxy_bypass(f"{host}:{port}"):
        return True
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return any(address in network for network in _networks(given.get("no", "")))
    return False


def _networks(words: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for word in words.split(","):
        with suppress(ValueError):
            found.append(ipaddress.ip_network(word.strip().strip("[]"), strict=False))
    return found


def _variable(scheme: str) -> str:
    """The name of the variable that is set, for messages; lower case wins, as in other programs."""
    lower = f"{scheme}_proxy"
    return lower if os.environ.get(lower) else lower.upper()


def _parsed(words: str, variable: str) -> URL:
    """Parse it as curl does: ``proxy:3128`` is an HTTP proxy. The value is never repeated, as it may hold a password."""
    if words.lower().startswith("socks"):
        raise UsageError(
            f"{variable} names a SOCKS proxy, which polyb2 does not speak: name an HTTP proxy, http://proxy.example:3128, "
            "or put the endpoint's host into NO_PROXY"
        )
    try:
        found = URL(words if "://" in words else f"http://{words}")
        if found.scheme in _PORTS and found.host and found.port:
            return found
    except ValueError:
        pass
    raise UsageError(f"{variable} is not the URL of an HTTP proxy: write http://proxy.example:3128") from None
