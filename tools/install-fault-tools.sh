#!/bin/sh
# Installs what `make faults` puts polyb2 into strange surroundings with: a false clock, refused system calls, other locales.
#
#   tools/install-fault-tools.sh
#
# Needs Debian 12 (or a relative) and root or sudo. What lacks its tool is skipped, and the report says so.
set -eu
exec "$(dirname "$0")/install-packages.sh" faketime strace locales openssl util-linux
