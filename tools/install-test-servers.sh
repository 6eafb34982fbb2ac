#!/bin/sh
# Installs the servers the S3 tests talk to: OpenStack Swift (with s3api) and memcached, and nginx as a proxy before a store,
# all from Debian's own packages.
#
#   tools/install-test-servers.sh
#
# Needs Debian 12 (or a relative with Swift 2.30 or newer) and root or sudo. No service is started: the tests run private
# copies of the daemons, on 127.0.0.1 and on free ports, with their own configuration, and do not use /etc/swift.
set -eu
exec "$(dirname "$0")/install-packages.sh" swift-proxy swift-account swift-container swift-object memcached nginx-light
