#!/usr/bin/env bash
# Write requirements.txt from uv.lock.
set -euo pipefail
cd "$(dirname "$0")/.."
uv export --quiet --frozen --all-groups --no-emit-project --no-header >requirements.txt
