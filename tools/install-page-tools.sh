#!/bin/sh
# Installs what the page and the alerts are tried with: a browser without a window, and promtool, from Debian's own packages.
#
#   tools/install-page-tools.sh
#
# Needs Debian 12 (or a relative) and root or sudo. Tests that need them are skipped, and say so, where they are not.
set -eu
exec "$(dirname "$0")/install-packages.sh" chromium prometheus fonts-dejavu-core
