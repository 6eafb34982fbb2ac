#!/bin/sh
# Installs what tools/try-image.sh builds and runs the image with, and says whether this machine lets containers run.
#
#   tools/install-container-tools.sh
#
# Needs Debian 12 (or a relative with buildah 1.28 and podman 4.3, or newer) and root or sudo.
set -eu
"$(dirname "$0")/install-packages.sh" buildah podman runc mmdebstrap ca-certificates
unshare --mount --pid --ipc --uts --net --fork true || {
  echo "install-container-tools: this machine does not let containers run" >&2
  exit 1
}
