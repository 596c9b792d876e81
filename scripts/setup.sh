#!/usr/bin/env bash
# Make .venv from the lock, with what the given purpose needs: run, dev, test or bench. Idempotent and quick when done.
# On a bare machine it gets what is missing: uv from PyPI, Debian's packages by apt when root. Touches nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:-dev}
export UV_PYTHON_DOWNLOADS=never PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
uv_version=0.13.9

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Install Debian packages, if that is possible here. "$1" is what they are for.
apt_install() {
    local why=$1
    shift
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "$why is missing. Install: $*"
    say "installing $* ($why)"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get install -y -qq --no-install-recommends "$@" || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; }; } >/dev/null 2>&1 ||
        die "apt-get could not install $*"
}

find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null && "$candidate" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Print the uv to use: the one on the PATH, or a private one in .uv/.
find_uv() {
    if command -v uv >/dev/null && uv --version | awk '{ split($2, v, "."); exit !(v[1] > 0 || v[2] >= 9) }'; then
        command -v uv
        return
    fi
    if [ ! -x .uv/bin/uv ]; then
        say "getting uv $uv_version from PyPI"
        "$python" -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip install -q "uv==$uv_version" >&2 || return 1
    fi
    echo .uv/bin/uv
}

sync() {
    local groups=(--no-default-groups)
    [ "$purpose" = run ] || groups=(--all-groups)
    if uv=$(find_uv); then
        "$uv" sync --quiet --frozen --python "$python" "${groups[@]}"
    else
        say "uv cannot be had; using pip with the hashed lock"
        "$python" -m venv .venv
        .venv/bin/python -m pip install -q --require-hashes -r requirements.txt
        .venv/bin/python -m pip install -q --no-deps -e .
    fi
}

python=$(find_python) || { apt_install "Python 3.11" python3 python3-venv; python=$(find_python) || die "Python 3.11 or newer is needed"; }
"$python" -c 'import ensurepip' 2>/dev/null || command -v uv >/dev/null || apt_install "Python's venv" python3-venv

stamp=.venv/.made-for-$purpose
if [ ! -e "$stamp" ] || [ uv.lock -nt "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    say "making .venv"
    sync
    touch "$stamp"
    [ "$purpose" = run ] || touch .venv/.made-for-run .venv/.made-for-dev
fi

if [ "$purpose" = test ]; then
    if [ ! -e tests/e2e/node/node_modules/.made ] || [ tests/e2e/node/package-lock.json -nt tests/e2e/node/node_modules/.made ]; then
        say "getting the official Node SDK"
        (export PATH=$PWD/.venv/bin:$PATH && cd tests/e2e/node && npm ci --silent --no-audit --no-fund >&2) && touch tests/e2e/node/node_modules/.made
    fi
    command -v curl >/dev/null || apt_install "curl, for the README's commands" curl ca-certificates
fi

if [ "$purpose" = bench ]; then
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || apt_install "nginx, the baseline" nginx-light
    command -v wrk >/dev/null || apt_install "wrk, the load" wrk
fi
