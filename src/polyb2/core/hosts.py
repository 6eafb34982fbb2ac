"""Host names: which of them are addresses, and which are this machine itself."""

from __future__ import annotations

import ipaddress


def is_address(host: str) -> bool:
    """Tell if the host is an IP address; one of version 6 may stand in brackets."""
    try:
        ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell if the host is this machine by its name or address alone, without a DNS query."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
