#!/usr/bin/env bash
# Write what pip installs where uv cannot be had, with hashes, from uv.lock: requirements.txt to run Tok0n, and
# requirements-dev.txt to work on it. With --check, only say whether all is in step.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

uv=$(find_uv "$(find_python)") || die "uv is needed, and cannot be had"
export=("$uv" export --quiet --frozen --no-emit-project --no-header --all-extras)

if [ "${1:-}" = --check ]; then
    "$uv" lock --check --quiet || die "uv.lock is not in step with pyproject.toml: run uv lock"
    cmp -s <("${export[@]}" --no-default-groups) requirements.txt &&
        cmp -s <("${export[@]}" --all-groups) requirements-dev.txt ||
        die "the requirements are not in step with uv.lock: run scripts/export-lock.sh"
else
    "${export[@]}" --no-default-groups >requirements.txt
    "${export[@]}" --all-groups >requirements-dev.txt
fi
