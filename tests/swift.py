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

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

INSTALL_SCRIPT: Final = "tools/install-test-servers.sh"

_BIN: Final = Path("/usr/bin")
_PYTHON: Final = _BIN / "python3"  # Debian's, which Debian's Swift belongs to
_MEMCACHED: Final = _BIN / "memcached"
_SETPRIV: Final = _BIN / "setpriv"
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}  # no venv, proxy or locale of ours
_STORES: Final = ("account", "container", "object")
_DAEMONS: Final = (*_STORES, "proxy")
_READY_S: Final = 60.0
_LOG_TAIL_LINES: Final = 15
_LOG_LINE_CHARS: Final = 500  # the end of a traceback, which Swift logs as one line
_DONE_ALREADY: Final = {"PUT": "409", "DELETE": "404"}  # an earlier try that was answered with an error had worked

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


class SwiftError(RuntimeError):
    """The servers did not come up; the message ends with what they logged."""


def swift_missing() -> str | None:
    """Why the server cannot run here, as the reason of a skip; None if it can."""
    needed = (_PYTHON, *(_server(name) for name in _DAEMONS), _MEMCACHED, _SETPRIV)
    absent = [path.name for path in needed if not os.access(path, os.X_OK)]
    return f"not installed: {', '.join(absent)} (run {INSTALL_SCRIPT})" if absent else None


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
        self._port = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return when a signed round trip through all daemons has worked, else clean up and raise SwiftError."""
        if reason := swift_missing():
            raise SwiftError(reason)
        self.root.mkdir(parents=True)
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the daemons, each by its own process group, and remove the directory. Does nothing the second time."""
        for process in self._processes.values():
            if process.poll() is None:  # not reaped: the id is still ours. Nothing is kept, so no need to be gentle
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        shutil.rmtree(self.root, ignore_errors=True)

    def _launch(self) -> None:
        with _reserved_ports(len(_DAEMONS) + 1) as (self._port, memcached_port, *store_ports):
            self._configure(dict(zip(_DAEMONS, (*store_ports, self._port), strict=True)), memcached_port)
            if self._run("rings", _PYTHON, "-I", "-c", _MAKE_RINGS, self.root, *store_ports).wait() != 0:
                raise SwiftError(f"could not make the rings{self._log_tails()}")
            user = ("-u", "root") if os.geteuid() == 0 else ()  # memcached wants to be told
            self._run("memcached", _MEMCACHED, "-l", "127.0.0.1", "-p", memcached_port, "-U", 0, *user)
            for name in _DAEMONS:
                conf = self.root / f"{name}.conf"
                self._run(name, _PYTHON, "-I", "-c", _RUN_DAEMON, self.root, _server(name), conf, "-v")
            self._wait_until_ready()

    def _configure(self, ports: dict[str, int], memcached_port: int) -> None:
        (self.root / "devices" / "disk").mkdir(parents=True)
        try:
            os.setxattr(self.root, "user.swift.metadata", b"x" * 1024)
        except OSError as error:
            raise SwiftError(f"{self.root}: the file system has no user xattrs, which Swift needs ({error})") from error
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

    def _run(self, name: str, *command: object) -> subprocess.Popen[bytes]:
        """Start a process in its own group (Swift signals its whole group), that dies with us and logs to NAME.log."""
        with (self.root / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [_SETPRIV, "--pdeathsig", "KILL", *map(str, command)],
                cwd=self.root,
                env=_ENVIRONMENT,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self._processes[name]

    def _wait_until_ready(self) -> None:
        self.endpoint_url = f"http://127.0.0.1:{self._port}"
        deadline = time.monotonic() + _READY_S
        # The object's answer waits for its entry in the listing, so this reaches each daemon.
        for method, path in (("PUT", "/ready"), ("PUT", "/ready/x"), ("DELETE", "/ready/x"), ("DELETE", "/ready")):
            answer = ""
            while not answer.startswith(("2", _DONE_ALREADY[method])):
                dead = [name for name, each in self._processes.items() if name != "rings" and each.poll() is not None]
                if dead or time.monotonic() > deadline:
                    why = f"{', '.join(dead)} ended" if dead else f"not ready after {_READY_S:g} s"
                    why += f"; the last answer to {method} {path}: {answer or 'none'}"
                    raise SwiftError(why + self._log_tails())
                time.sleep(0.05)
                answer = self._answer(method, path)

    def _answer(self, method: str, path: str) -> str:
        request = AWSRequest(method, self.endpoint_url + path, data=b"")
        S3SigV4Auth(Credentials(self.access_key, self.secret_key), "s3", self.region).add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_READY_S)
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body=b"", headers=dict(request.headers.items()))
                response = connection.getresponse()
                return f"{response.status} {response.read(500)!r}"
            except (OSError, http.client.HTTPException) as error:
                return f"no HTTP answer: {error}"

    def _log_tails(self) -> str:
        tails = ""
        for log in sorted(self.root.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
            tails += "".join(f"\n{log.stem}: {line[-_LOG_LINE_CHARS:]}" for line in lines)
        return tails


def _server(name: str) -> Path:
    return _BIN / f"swift-{name}-server"


@contextlib.contextmanager
def _reserved_ports(count: int) -> Iterator[list[int]]:
    """Free ports that nobody gets by chance meanwhile. A daemon may listen there, with SO_REUSEADDR: we do not."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]
