"""The network edge: both sides, with their requests signed, rate-limited and retried, and their errors classed."""

import os

_PLACES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def _load_aiohttp() -> None:
    """Import aiohttp without the certificates that it would read twice: a tenth of a second of every start, and two copies.

    aiohttp has no switch for it, so the environment names an empty file while it loads, and is restored. The
    authorities that this process trusts are read once, by ``connectors.py``; no key of a session is ever written, and a
    SSLKEYLOGFILE that cannot be written does not end the program.
    """
    given = {name: os.environ.get(name) for name in _PLACES}
    os.environ.update(dict.fromkeys(_PLACES, os.devnull))
    try:
        import aiohttp  # noqa: F401, PLC0415 - loading is what it is about
    finally:
        for name, value in given.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_load_aiohttp()
