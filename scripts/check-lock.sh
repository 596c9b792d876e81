#!/usr/bin/env bash
# requirements.txt is what pip installs where uv cannot be had: it must say the same as uv.lock.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .uv/bin/uv)
[ -x "$uv" ] || { echo "lint: uv is not here, so the lock was not checked"; exit 1; }
"$uv" lock --check --quiet || { echo "lint: uv.lock is not in step with pyproject.toml: run uv lock"; exit 1; }
diff -q <("$uv" export --quiet --frozen --all-groups --no-emit-project --no-header) requirements.txt >/dev/null ||
    { echo "lint: requirements.txt is not in step with uv.lock: run scripts/export-lock.sh"; exit 1; }
