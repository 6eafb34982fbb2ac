#!/bin/sh
# Locks the versions that the Makefile, CI and the image install: hashed, for every supported Python, without any address.
# Needs uv on the PATH (pip install uv). Run it after a change of the dependencies in pyproject.toml, and commit the result.
set -eu
cd "$(dirname "$0")/.."
common="--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --quiet --no-header"
# shellcheck disable=SC2086 # a list of options
uv pip compile $common pyproject.toml -o requirements/run.txt "$@"
# shellcheck disable=SC2086
uv pip compile $common pyproject.toml --extra notify -o requirements/notify.txt "$@"
# shellcheck disable=SC2086
uv pip compile $common pyproject.toml --extra speed -o requirements/speed.txt "$@"
# shellcheck disable=SC2086
uv pip compile $common pyproject.toml --extra postgres -o requirements/postgres.txt "$@"
# shellcheck disable=SC2086
uv pip compile $common pyproject.toml --extra postgres --extra speed -o requirements/image.txt "$@"
# shellcheck disable=SC2086
uv pip compile $common pyproject.toml --extra notify --extra postgres --extra speed --group dev -o requirements/dev.txt "$@"
# shellcheck disable=SC2086
uv pip compile $common requirements/build.in -o requirements/build.txt "$@"
# shellcheck disable=SC2086
uv pip compile $common requirements/bench.in -o requirements/bench.txt "$@"
