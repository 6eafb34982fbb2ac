"""The gateway that the source itself seems to be: Ceph's RADOS Gateway, private to one test run (`make test-ceph`).

One monitor, one manager, one object store in memory and the gateway, with cephx keys of their own, on free ports of
127.0.0.1, as the packages' own user `ceph` where the tests run as root, else as the current user:

    with CephServer() as server:
        ...  # server.endpoint_url, server.access_key, server.secret_key, server.region

Nothing outside its temporary folder is written; /etc/ceph and /var/lib/ceph are neither needed nor used.
"""

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Final, Self

from tests.daemons import SETPRIV, Daemons, ServerError, missing, reserved_ports

INSTALL_SCRIPT: Final = "tools/install-ceph.sh"

_BIN: Final = Path("/usr/bin")
_PROGRAMS: Final = (
    "ceph", "ceph-authtool", "ceph-mgr", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin",
)  # fmt: skip
_ENTITIES: Final = ("mon.", "client.admin", "client.rgw", "mgr.x", "osd.0")
_USER: Final = "ceph"

# - One copy of everything, one placement group a pool: there is one store, which forgets all when it ends.
# - mon data avail crit: the monitor would stop on a disk that is nearly full; it writes a few megabytes.
_CONF: Final = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}/0]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth allow insecure global id reclaim = false
keyring = {root}/keyring
run dir = {root}
admin socket = {root}/$name.asok
crash dir = {root}
log file =
log to stderr = true
mon cluster log file =
mon data = {root}/mon
mgr data = {root}/mgr
osd data = {root}/osd
rgw data = {root}/rgw
mon data avail crit = 1
mon allow pool size one = true
mgr initial modules =
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
rgw enable usage log = false
"""


def ceph_missing() -> str | None:
    """Why the cluster cannot run here, as the reason of a skip; None if it can."""
    return missing((*(_BIN / name for name in _PROGRAMS), SETPRIV), INSTALL_SCRIPT)


class CephServer:
    """A cluster of one and its gateway in a temporary folder; all of it disappears with `stop()`.

    Call `start()` from a thread that outlives the server (a fixture does): the daemons die with that thread.
    """

    access_key: Final = "tester"
    secret_key: Final = "testing"
    region: Final = "us-east-1"

    def __init__(self) -> None:
        # Not below a folder of pytest's, which only its owner may enter; and the paths of sockets are short.
        self.root: Final = Path(tempfile.mkdtemp(prefix="polyb2-ceph-"))
        self.endpoint_url = ""
        self._daemons = Daemons(self.root, _USER if os.geteuid() == 0 else None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when a signed round trip has worked, else clean up and raise ServerError."""
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the daemons and remove the folder. Does nothing the second time."""
        self._daemons.stop()

    def _launch(self) -> None:
        if reason := ceph_missing():
            raise ServerError(reason)
        daemons = self._daemons
        with reserved_ports(2) as (port, gateway_port):
            self._configure(port, gateway_port)
            self._make_monitor(port)
            daemons.start("mon", *self._program("ceph-mon", "-f", "-i", "a"))
            daemons.start("mgr", *self._program("ceph-mgr", "-f", "-i", "x"))
            store = uuid.uuid4()
            daemons.run("osd new", *self._program("ceph", "osd", "new", store))
            daemons.run("osd mkfs", *self._program("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store))
            daemons.start("osd", *self._program("ceph-osd", "-f", "-i", "0"))
            daemons.start("rgw", *self._program("radosgw", "-f", "-n", "client.rgw"))
            words = f"user create --uid=tester --display-name=Tester --access-key={self.access_key}"
            daemons.run(
                "user create", *self._program("radosgw-admin", *words.split(), f"--secret-key={self.secret_key}")
            )
            self.endpoint_url = f"http://127.0.0.1:{gateway_port}"
            daemons.wait_for_round_trip(self.endpoint_url, self.access_key, self.secret_key, self.region)

    def _program(self, name: str, *words: object) -> tuple[object, ...]:
        return (_BIN / name, "-c", self.root / "ceph.conf", *words)

    def _configure(self, port: int, gateway_port: int) -> None:
        self._fsid = uuid.uuid4()
        conf = _CONF.format(root=self.root, fsid=self._fsid, port=port, gateway_port=gateway_port)
        (self.root / "ceph.conf").write_text(conf)
        for name in ("mon", "mgr", "osd", "rgw"):
            (self.root / name).mkdir()
        if os.geteuid() == 0:
            for path in (self.root, *self.root.iterdir()):
                shutil.chown(path, _USER, _USER)

    def _make_monitor(self, port: int) -> None:
        keyring, monmap = self.root / "keyring", self.root / "monmap"
        for entity in _ENTITIES:
            make = () if keyring.exists() else ("--create-keyring",)
            rights = [word for daemon in ("mon", "osd", "mgr") for word in ("--cap", daemon, "allow *")]
            self._daemons.run("keys", _BIN / "ceph-authtool", *make, keyring, "--gen-key", "-n", entity, *rights)
        at = f"[v2:127.0.0.1:{port}/0]"
        self._daemons.run(
            "map", *self._program("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", at, monmap)
        )
        mkfs = ("--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemons.run("mon mkfs", *self._program("ceph-mon", *mkfs))
