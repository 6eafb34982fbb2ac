"""A real S3 server for the tests: OpenStack Swift with its s3api, private to one test run.

Swift checks what S3 checks: SigV4, Content-MD5, part sizes, ETags, `If-Match`, ranges. It is four Python daemons
(account, container, object, proxy) and a memcached. `SwiftServer` writes their rings and configuration under a
directory, starts them on free ports of 127.0.0.1 as the current user, waits until a signed round trip works, and takes
everything away again:

    with SwiftServer(tmp_path_factory.mktemp("swift")) as server:
        ...  # server.endpoint_url, server.access_key, server.secret_key, server.region

Nothing outside that directory is written; /etc/swift is neither needed nor used. Swift keeps metadata in user xattrs,
so the directory must be on a file system that has them: ext4, xfs, btrfs, overlay, and tmpfs from Linux 6.6 on.
"""

import os
from pathlib import Path
from typing import Final, Self

from tests.daemons import SETPRIV, Daemons, ServerError, missing, reserved_ports

INSTALL_SCRIPT: Final = "tools/install-test-servers.sh"

_BIN: Final = Path("/usr/bin")
_PYTHON: Final = _BIN / "python3"  # Debian's, which Debian's Swift belongs to
_MEMCACHED: Final = _BIN / "memcached"
_STORES: Final = ("account", "container", "object")
_DAEMONS: Final = (*_STORES, "proxy")

# One replica, one device a ring: the command line tool would be nine slow starts of an interpreter.
_MAKE_RINGS: Final = """
import sys
from swift.common.ring import RingBuilder
directory, *ports = sys.argv[1:]
for kind, port in zip(("account", "container", "object"), map(int, ports)):
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "device": "disk", "weight": 1, "ip": "127.0.0.1", "port": port,
                     "replication_ip": "127.0.0.1", "replication_port": port})
    builder.rebalance()
    builder.get_ring().save(f"{directory}/{kind}.ring.gz")
"""

# The servers read /etc/swift/swift.conf unless told otherwise before their modules load, and have no option for it.
_RUN_DAEMON: Final = """
import runpy, sys
from swift.common import utils
utils.set_swift_dir(sys.argv[1])
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

_SWIFT_CONF: Final = """
[swift-hash]
swift_hash_path_suffix = polyb2
[storage-policy:0]
name = only
default = yes
[swift-constraints]
max_meta_value_length = 2048
"""

# - workers = 0: one process a daemon, no children, and no change of user (workers become the user `swift`, which may
#   not read our directory). Two cores gain nothing from more.
# - log_udp: nobody listens on the discard port. No syslog is needed and none is written to; `-v` logs to our files.
# - time-outs: the defaults (0.5 s to connect, 1 s to enter an object in its listing) are lost on a busy CI machine, and
#   no updater runs here that would repair a listing.
_COMMON_CONF: Final = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {root}
devices = {root}/devices
recon_cache_path = {root}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
workers = 0
log_level = WARNING
log_udp_host = 127.0.0.1
log_udp_port = 9
conn_timeout = 10
node_timeout = 60
container_update_timeout = 60
"""

_STORE_CONF: Final = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
log_requests = false
disk_chunk_size = 1048576
network_chunk_size = 1048576
"""

# error_suppression: Swift would shun its only store for a minute after ten errors, and tests cause errors.
# versioned_writes stands before symlink, or a HEAD in a bucket with versions sees the link instead of the object.
_PROXY_CONF: Final = """
[pipeline:main]
pipeline = catch_errors gatekeeper proxy-logging cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_interval = 0
client_chunk_size = 1048576
object_chunk_size = 1048576
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached_port}
memcache_max_connections = 32
connect_timeout = 5
io_timeout = 10
[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
check_bucket_owner = false
min_segment_size = 5242880
max_upload_part_num = 10000
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret_key} .admin
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
concurrency = 8
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:proxy-logging]
use = egg:swift#proxy_logging
"""  # noqa: E501 # a pipeline is one line
_PLAIN_FILTERS: Final = ("catch_errors", "gatekeeper", "listing_formats", "bulk", "copy", "dlo", "symlink")


def swift_missing() -> str | None:
    """Why the server cannot run here, as the reason of a skip; None if it can."""
    return missing((_PYTHON, *(_server(name) for name in _DAEMONS), _MEMCACHED, SETPRIV), INSTALL_SCRIPT)


class SwiftServer:
    """Swift and its memcached in a new directory `swift` under `directory`; all of it disappears with `stop()`.

    Call `start()` from a thread that outlives the server (a fixture does): the daemons die with that thread, so that a
    killed test run leaves no process behind.
    """

    access_key: Final = "test:tester"
    secret_key: Final = "testing"
    region: Final = "us-east-1"

    def __init__(self, directory: Path) -> None:
        self.root: Final = directory.resolve() / "swift"
        self.endpoint_url = ""
        self._daemons = Daemons(self.root)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when a signed round trip through all daemons has worked, else clean up and raise ServerError."""
        if reason := swift_missing():
            raise ServerError(reason)
        self.root.mkdir(parents=True)
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the daemons and remove the directory. Does nothing the second time."""
        self._daemons.stop()

    def _launch(self) -> None:
        daemons = self._daemons
        with reserved_ports(len(_DAEMONS) + 1) as (port, memcached_port, *store_ports):
            self._configure(dict(zip(_DAEMONS, (*store_ports, port), strict=True)), memcached_port)
            daemons.run("rings", _PYTHON, "-I", "-c", _MAKE_RINGS, self.root, *store_ports)
            user = ("-u", "root") if os.geteuid() == 0 else ()  # memcached wants to be told
            daemons.start("memcached", _MEMCACHED, "-l", "127.0.0.1", "-p", memcached_port, "-U", 0, *user)
            for name in _DAEMONS:
                conf = self.root / f"{name}.conf"
                daemons.start(name, _PYTHON, "-I", "-c", _RUN_DAEMON, self.root, _server(name), conf, "-v")
            self.endpoint_url = f"http://127.0.0.1:{port}"
            # The object's answer waits for its entry in the listing, so this reaches each daemon.
            daemons.wait_for_round_trip(self.endpoint_url, self.access_key, self.secret_key, self.region)

    def _configure(self, ports: dict[str, int], memcached_port: int) -> None:
        (self.root / "devices" / "disk").mkdir(parents=True)
        try:
            os.setxattr(self.root, "user.swift.metadata", b"x" * 1024)
        except OSError as error:
            raise ServerError(
                f"{self.root}: the file system has no user xattrs, which Swift needs ({error})"
            ) from error
        (self.root / "swift.conf").write_text(_SWIFT_CONF)
        for name, port in ports.items():
            conf = _COMMON_CONF + (_PROXY_CONF if name == "proxy" else _STORE_CONF)
            conf = conf.format(
                name=name,
                port=port,
                root=self.root,
                memcached_port=memcached_port,
                region=self.region,
                secret_key=self.secret_key,
            )
            if name == "proxy":
                conf += "".join(f"[filter:{each}]\nuse = egg:swift#{each}\n" for each in _PLAIN_FILTERS)
            (self.root / f"{name}.conf").write_text(conf)


def _server(name: str) -> Path:
    return _BIN / f"swift-{name}-server"
