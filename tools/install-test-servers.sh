#!/bin/sh
# Installs the servers that the tests talk to, all from Debian's own packages: OpenStack Swift (with s3api) and memcached, nginx as a
# proxy before a store, PostgreSQL for the ledger of a fleet, and pgbouncer before it.
#
#   tools/install-test-servers.sh
#
# Needs Debian 12 (or a relative with Swift 2.30 or newer) and root or sudo. No service is started and no database cluster made: the
# tests run private copies of the daemons, on 127.0.0.1 and on free ports, with their own configuration, and use nothing of /etc.
set -eu
exec "$(dirname "$0")/install-packages.sh" swift-proxy swift-account swift-container swift-object memcached nginx-light \
  postgresql postgresql-common pgbouncer
