#!/bin/sh
# Builds the sdist, the wheel from the sdist, installs that into a clean environment with the locked dependencies, and runs
# the demo there.
#
#   make .venv/run.stamp && tools/try-package.sh
set -eu
cd "$(dirname "$0")/.."

say() { printf 'try-package: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

bin=$PWD/.venv/bin
[ -x "$bin/hatchling" ] || die "run make .venv/run.stamp first"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$bin/hatchling" build --target sdist --directory "$work" >/dev/null
"$bin/python" -m pip --quiet wheel --no-deps --no-build-isolation --wheel-dir "$work" "$work"/polyb2-*.tar.gz
"$bin/python" -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip install --no-deps --require-hashes -r requirements/run.txt
$pip install --no-deps "$work"/polyb2-*.whl
$pip check

# Outside the checkout, and without the variables that would lead back to it.
cd "$work"
clean() { env -i PATH="$work/venv/bin:/usr/bin:/bin" HOME="$work" "$@"; }
clean python - "$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$OLDPWD/src/polyb2/__init__.py")" <<'PYTHON'
import sys
from importlib.metadata import distribution

ours = distribution("polyb2")
files = {str(file) for file in ours.files or ()}
wanted = {"polyb2/py.typed", "polyb2/ledger/sql/common.sql", "polyb2/ledger/sql/sqlite.sql", "polyb2/ledger/sqlite/migrations/0001_ledger.sql"}
wanted |= {"polyb2/ledger/sql/postgres.sql", "polyb2/ledger/postgres/migrations/0001_ledger.sql"}
assert wanted <= files, wanted - files
assert any(file.endswith("licenses/LICENSE") for file in files), "no licence"
assert not any(file.startswith("tests") for file in files), "tests in the wheel"
facts = ours.metadata
assert ours.version == sys.argv[1], ours.version
assert facts["License-Expression"] == "MIT" and facts["Requires-Python"] and facts["Summary"], "incomplete metadata"
assert "polyb2" in facts.get_payload(), "no description"
PYTHON
say "$(clean polyb2 --version) installs from $(cd "$work" && echo polyb2-*.tar.gz polyb2-*.whl)"
clean polyb2 demo >"$work/demo" 2>&1 || { cat "$work/demo"; die "the demo failed"; }
grep '0 differences' "$work/demo"
