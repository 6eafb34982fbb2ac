#!/usr/bin/env bash
# Builds the image and runs it as its users do: hardened, killed, restarted on its volume, stopped; then as a fleet on PostgreSQL
# that loses two of four containers. See each step's words.
#
#   tools/install-container-tools.sh && make .venv/run.stamp && tools/try-image.sh
#
# Needs root, buildah, podman, runc and mmdebstrap, and the package indexes of Debian and Python; no image registry and no
# engine that runs already. The base is a stand-in: Debian 13 and its own Python under the name that the Dockerfile
# asks for. So the Dockerfile's steps and the program in its container are tried, and the official base image is not.
# Images, volumes and containers live in a folder of their own, which is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
patience_s=120
grace_s=45
work=$(mktemp -d)
sandbox=""
postgres=""

say() { printf 'try-image: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

engine() { podman "${store[@]}" --tmpdir "$work/tmp" --cgroup-manager=cgroupfs --runtime runc "$@" 2> >(without_timers >&2); }
# podman hands health checks to systemd's timers; without a systemd it says so each time, and they are run by hand below.
without_timers() { grep -v 'unable to get systemd connection' || true; }
store=(--root "$work/storage" --runroot "$work/run")

clean_up() {
  local code=$?
  [ "$code" -eq 0 ] || engine logs --tail 20 mirror || true
  engine rm --all --force --time 0 >/dev/null || true
  [ -z "$sandbox" ] || kill "$sandbox" 2>/dev/null || true
  [ -z "$postgres" ] || as_postgres "$programs/pg_ctl" --pgdata="$postgres" --mode=immediate --silent stop || true
  umount "$work/storage/overlay" 2>/dev/null || true
  rm -rf "$work"
  exit "$code"
}
trap clean_up EXIT

# The flags of docker-compose.yml; the limits are below the hard ones of a sandbox that may surround this.
hardened=(--read-only --read-only-tmpfs=false --cap-drop=ALL --security-opt=no-new-privileges
  --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
once() { engine run --rm --network=host --env LOG_LEVEL=WARNING "${hardened[@]}" --env-file "$work/env" --volume ledger:/data polyb2 "$@"; }
start() { engine run --detach --replace --name mirror --network=host "${hardened[@]}" --env-file "$work/env" --volume ledger:/data "$@" polyb2 >/dev/null; }

# Of the large file alone: a container that has just begun may be at the small ones while the lease of its dead
# predecessor lasts.
received() { once files --dataset us_options_opra/quotes_v1 --json | "$python" -c 'import json, sys; print(json.load(sys.stdin)["bytes_done"])'; }
has_more_than() { [ "$(received)" -gt "$1" ]; }
eventually() {
  local end=$((SECONDS + patience_s))
  until "$@" >/dev/null; do
    [ "$SECONDS" -lt "$end" ] || die "waited ${patience_s} s in vain for: $*"
    sleep 0.2
  done
}

[ "$(id -u)" -eq 0 ] || die "run me as root"
[ -x "$python" ] || die "run make .venv/run.stamp first"
version=$("$python" -c 'import polyb2; print(polyb2.__version__)')

base=$(sed -n 's/^ARG BASE=//p' Dockerfile)
say "a stand-in for $base"
# It trusts what this machine trusts, which may include the proxy that the build goes through.
# shellcheck disable=SC2016 # the hook's own "$1" is the new root
mmdebstrap --quiet --variant=essential --include=ca-certificates,python3,python3-venv \
  --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
  --customize-hook='upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt' \
  trixie "$work/base.tar"
engine import --quiet "$work/base.tar" "$base" >/dev/null
rm "$work/base.tar"

say "build"
buildah "${store[@]}" bud --quiet --isolation=chroot --pull-never --network=host --format docker \
  --build-arg VERSION="$version" --tag polyb2 . >"$work/build.log" 2>&1 || { cat "$work/build.log"; die "the build failed"; }
for wanted in "User:10001:10001" "StopSignal:SIGTERM" "Entrypoint:[polyb2]" "Cmd:[run --watch]" "Volumes:map[/data:{}]"; do
  [ "$(engine image inspect --format "{{.Config.${wanted%%:*}}}" polyb2)" = "${wanted#*:}" ] || die "the image lacks $wanted"
done
[ "$(engine run --rm "${hardened[@]}" --network=none polyb2 --version)" = "polyb2 $version" ] || die "another version"
engine images --format '{{.Repository}}:{{.Tag}} {{.Size}}'

say "without settings it ends with exit code 2 and says which are missing"
code=0
engine run --rm --network=none "${hardened[@]}" polyb2 2>"$work/missing" || code=$?
if [ "$code" -ne 2 ] || ! grep -q 'B2_KEY_ID is not set' "$work/missing"; then
  die "exit code $code: $(cat "$work/missing")"
fi

say "it has what a ledger in PostgreSQL needs"
engine run --rm --network=none "${hardened[@]}" --env DATABASE_URL=postgresql://polyb2@127.0.0.1/polyb2 polyb2 status \
  2>"$work/refused" && die "a ledger where no server is"
grep -q 'cannot be used' "$work/refused" || die "$(cat "$work/refused")"

say "the demo, without any network"
engine run --rm --network=none "${hardened[@]}" polyb2 demo >"$work/demo" 2>&1 || { cat "$work/demo"; die "the demo failed"; }
grep '0 differences' "$work/demo"

say "a source and a target on loopback, and a mirror between them"
"$python" -m polyb2.sandbox --small 40 --large 160 >"$work/sandbox.json" &
sandbox=$!
eventually test -s "$work/sandbox.json"
"$python" - "$work/sandbox.json" >"$work/env" <<'PYTHON'
import json, socket, sys

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
settings = json.load(open(sys.argv[1])) | {
    "POLYB2_DATASETS": "us_stocks_sip/day_aggs_v1,us_options_opra/quotes_v1",
    "POLYB2_CONCURRENCY": "4",
    "POLYB2_PART_SIZE": "5MiB",
    "POLYB2_LEASE_SECONDS": "2",
    "POLYB2_HTTP_ADDR": f"127.0.0.1:{port}",
}
print(*(f"{name}={value}" for name, value in settings.items()), sep="\n")
PYTHON
once discover --historical
start --env POLYB2_MAX_BANDWIDTH=4M
eventually has_more_than 12000000

say "healthy, and not where nothing listens"
engine healthcheck run mirror || die "unhealthy"
if engine exec --env POLYB2_HTTP_ADDR=127.0.0.1:1 mirror python -I /opt/polyb2/healthcheck.py 2>/dev/null; then
  die "healthy without a health page"
fi

say "killed in the middle"
engine kill --signal KILL mirror >/dev/null
[ "$(engine wait mirror)" -eq 137 ] || die "it was not killed"
stored=$(received)
say "$stored bytes have receipts"

say "a new container on the same volume goes on; SIGTERM drains it"
start --env POLYB2_MAX_BANDWIDTH=4M
eventually has_more_than "$stored"
began=$SECONDS
engine stop --time "$grace_s" mirror >/dev/null
[ "$(engine inspect --format '{{.State.ExitCode}}' mirror)" -eq 0 ] || die "it did not drain within ${grace_s} s"
say "drained in $((SECONDS - began)) s"
once files --dataset us_options_opra/quotes_v1 --json | grep -q '"reason": *"interrupted"' || die "it was not stopped in a transfer"

say "the rest, and the proof"
once run
once verify --deep --json | tee "$work/verify" && echo
agrees() { "$python" -c 'import json, sys; found = json.load(sys.stdin); sys.exit(found["checked"] != 41 or found["differences"] != [])'; }
agrees <"$work/verify" || die "verify disagrees"

programs=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort --version-sort | tail -n 1)
if [ -z "$programs" ]; then
  say "PostgreSQL is not installed (tools/install-test-servers.sh): the fleet was NOT tried"
  say "done"
  exit 0
fi

say "a fleet: PostgreSQL, and four containers without a volume"
install -d -o postgres "$work/postgres" && chmod 711 "$work"
as_postgres() { (cd / && setpriv --reuid postgres --regid postgres --init-groups "$@"); }
as_postgres "$programs/initdb" --pgdata="$work/postgres/data" --username=polyb2 --auth=trust >/dev/null
port=$("$python" -c 'import socket; free = socket.socket(); free.bind(("127.0.0.1", 0)); print(free.getsockname()[1])')
as_postgres "$programs/pg_ctl" --pgdata="$work/postgres/data" --log="$work/postgres/log" --wait --silent \
  --options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=" start
postgres=$work/postgres/data
# Under another prefix, as the bucket has all files by now.
printf '%s\n' "DATABASE_URL=postgresql://polyb2@127.0.0.1:$port/postgres" B2_KEY_PREFIX=fleet/ POLYB2_HTTP_ADDR= >>"$work/env"
once discover --historical
for worker in worker-1 worker-2 worker-3 worker-4; do
  engine run --detach --name "$worker" --network=host "${hardened[@]}" --tmpfs /data --env-file "$work/env" \
    --env WORKER_ID="$worker" --env POLYB2_MAX_BANDWIDTH=16M polyb2 >/dev/null
done
eventually has_more_than 12000000
holder=$(once files --dataset us_options_opra/quotes_v1 --json | "$python" -c 'import json, sys; print(json.load(sys.stdin)["worker_id"])')
others=$(printf 'worker-%s\n' 1 2 3 4 | grep -v "^$holder$")
killed=$(echo "$others" | head -n 1)
say "$holder, which has the large file, and $killed are killed"
engine kill --signal KILL "$holder" "$killed" >/dev/null
stored=$(received)
say "$stored bytes have receipts; the others go on"
completed() { once status --json | "$python" -c 'import json, sys; print(json.load(sys.stdin)["by_status"]["completed"]["files"])'; }
all_completed() { [ "$(completed)" -eq 41 ]; }
eventually all_completed
for worker in $(echo "$others" | tail -n 2); do
  engine stop --time "$grace_s" "$worker" >/dev/null
  [ "$(engine inspect --format '{{.State.ExitCode}}' "$worker")" -eq 0 ] || die "$worker did not drain"
done
once verify --deep --json | tee "$work/verify" && echo
agrees <"$work/verify" || die "verify of the fleet disagrees"
say "done"
