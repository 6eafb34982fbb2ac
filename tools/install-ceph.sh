#!/bin/sh
# Installs what `make test-ceph` brings up: a small Ceph cluster with its S3 gateway, from Debian's own packages (about 290 MB).
#
#   tools/install-ceph.sh
#
# Needs Debian 12 (or a relative with Ceph 16 or newer) and root or sudo. No service is started: the tests run private
# daemons, on 127.0.0.1 and on free ports, with their own configuration and data, and do not use /etc/ceph or /var/lib/ceph.
set -eu
exec "$(dirname "$0")/install-packages.sh" ceph-mon ceph-osd ceph-mgr radosgw ceph-common
