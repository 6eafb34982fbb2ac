#!/bin/sh
# Installs Debian packages without starting any service, now or at the next boot; quick when everything is there already.
#
#   tools/install-packages.sh PACKAGE...
#
# Needs Debian or a relative, and root or sudo. Others call it: install-test-servers.sh, install-container-tools.sh.
set -eu

policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d/polyb2-tests.conf

say() { printf 'install-packages: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

command -v apt-get >/dev/null 2>&1 || die "apt-get not found: this works only on Debian and its relatives"

missing=""
for package in "$@"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
  say "already installed"
  exit 0
fi

as_root() { "$@"; }
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || die "run me as root, or install sudo"
  as_root() { sudo "$@"; }
fi

# Debian's maintainer scripts start what they install. policy-rc.d is the documented way to say no; 101 means "forbidden".
# A policy that is there already (container images bring one) is somebody else's: it is left alone.
ours=""
trap 'as_root rm -f $ours' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ ! -e "$policy" ]; then
  ours="$ours $policy"
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
fi
# PostgreSQL's make a database cluster as well, which would start with the host.
case "$missing" in *postgresql*)
  ours="$ours $clusters"
  as_root mkdir -p "${clusters%/*}"
  printf 'create_main_cluster = false\n' | as_root tee "$clusters" >/dev/null ;;
esac

install() {
  # shellcheck disable=SC2086 # one word a package
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}

# The package lists may be absent (a fresh image) or stale (an old one): only then are they fetched.
if ! install; then
  as_root apt-get update -q || die "apt-get update failed"
  install || die "could not install:$missing"
fi

# Only what this run installed is stopped and disabled: a memcached that was here before stays as it was.
for package in $missing; do
  dpkg-query -L "$package" | sed -n 's|^.*/systemd/system/\([^/]*\)\.service$|\1|p;s|^/etc/init\.d/\([^/]*\)$|\1|p' | sort -u |
    while read -r service; do
      if [ -d /run/systemd/system ]; then
        as_root systemctl disable --now "$service" >/dev/null 2>&1 || true
      else
        [ ! -x "/etc/init.d/$service" ] || as_root "/etc/init.d/$service" stop >/dev/null 2>&1 || true
        as_root update-rc.d "$service" disable >/dev/null 2>&1 || true
      fi
    done
done

say "installed:$missing"
