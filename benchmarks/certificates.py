"""A certificate authority of the benchmark's own, made by ``openssl`` for each run, and a certificate for 127.0.0.1."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_SUBJECT = "/CN=polyb2 benchmark"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files: what clients trust, and what servers show."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make them in ``folder``; ECDSA, as public services have it."""
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    ca_key, request, extensions = folder / "ca.key", folder / "server.csr", folder / "server.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    _openssl("req", "-x509", *curve, "-keyout", ca_key, "-out", made.authority, "-subj", f"{_SUBJECT} CA", "-days", "2")
    _openssl("req", *curve, "-keyout", made.key, "-out", request, "-subj", _SUBJECT)
    signed_by: list[str | Path] = ["-CA", made.authority, "-CAkey", ca_key, "-CAcreateserial"]
    _openssl("x509", "-req", "-in", request, *signed_by, "-days", "2", "-extfile", extensions, "-out", made.certificate)
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)  # noqa: S603, S607 - fixed words
