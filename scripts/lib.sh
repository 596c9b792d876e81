# shellcheck shell=bash
# What the scripts share. To be sourced, from the root of the repository, with "bash strict mode" on.

export UV_PYTHON_DOWNLOADS=never PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
unset VIRTUAL_ENV UV_PROJECT_ENVIRONMENT
uv_version=0.13.9

# uv and Node bring their own certificates; a company's network needs those that this machine trusts.
certificates=/etc/ssl/certs/ca-certificates.crt
if [ -e $certificates ]; then
    export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_NATIVE_TLS=${UV_NATIVE_TLS:-true}
    export NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS:-$certificates}
fi

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die() { say "$*"; exit 1; }

# Install Debian packages: apt_install WHY PACKAGE... Fails where that is not possible.
# Their services are not started (policy-rc.d(8)): the tests start servers of their own.
apt_install() {
    local why=$1 policy=/usr/sbin/policy-rc.d status=0
    shift
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "installing $* ($why)"
    if [ -e $policy ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy; fi
    local install=(apt-get install -y -qq --no-install-recommends "$@")
    DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1 ||
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive "${install[@]}"; } >/dev/null 2>&1 || status=1
    [ -z "$policy" ] || rm -f "$policy"
    return $status
}

# Make sure that a command is there: need COMMAND WHY PACKAGE...
need() {
    local command=$1 why=$2
    shift 2
    PATH=$PATH:/usr/sbin command -v "$command" >/dev/null || apt_install "$why" "$@" ||
        die "$command is missing ($why). Install the package: $*"
}

# Make sure that there is a browser. Debian's headless shell takes two thirds of the CPU time of its Chromium.
need_browser() {
    command -v chromium-headless-shell >/dev/null || apt_install "$1" chromium-headless-shell fonts-dejavu-core ||
        need chromium "$1" chromium fonts-dejavu-core
}

# Make sure that there are PostgreSQL's binaries. Debian's package would start a server of its own: here it does not.
need_postgres() {
    command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && return
    if [ "$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    fi
    apt_install "$1" postgresql || die "PostgreSQL is missing ($1). Install the package: postgresql"
}

# Print the Python to use: the newest of those that are 3.11 or newer, and of two alike the distribution's. That is built
# with profile-guided and link-time optimization, and serves a request with a seventh less CPU than pyenv's (measured).
find_python() {
    local candidate
    for candidate in {/usr/bin/,}python3.13 {/usr/bin/,}python3.12 {/usr/bin/,}python3.11 {/usr/bin/,}python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Print the uv to use: the one on the PATH, or a private one in .uv/ that is got from PyPI with the Python "$1".
find_uv() {
    local python=$1
    if command -v uv >/dev/null && uv --version 2>/dev/null | awk '{ split($2, v, "."); exit !(v[1] > 0 || v[2] >= 9) }'; then
        command -v uv
        return
    fi
    if ! .uv/bin/uv --version >/dev/null 2>&1; then
        say "getting uv $uv_version from PyPI"
        get_uv "$python" || { rm -rf .uv; return 1; }
    fi
    echo "$PWD/.uv/bin/uv"
}

get_uv() {
    local install=(-m pip install -q "uv==$uv_version")
    rm -rf .uv
    if "$1" -m venv .uv >/dev/null 2>&1; then
        .uv/bin/python "${install[@]}" 2>&1 | tail -n 1 >&2
    else
        rm -rf .uv
        "$1" "${install[@]}" --target .uv 2>&1 | tail -n 1 >&2
    fi
    .uv/bin/uv --version >/dev/null 2>&1
}
