#!/usr/bin/env bash
# Make .venv from the lock, with what the given purpose needs: run, dev, test, clients, pictures, proxies, soak, bench,
# bench-pages or bench-ab. Idempotent, and quick when done. Fails, and names the package, when it cannot get something.
# On a bare machine it gets what is missing: uv from PyPI, Debian's packages by apt-get where it is root.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

purpose=${1:-dev}

choose_python() {
    if ! python=$(find_python); then
        apt_install "Tok0n runs on it" python3 python3-venv || true
        python=$(find_python) || die "Tok0n needs Python 3.11 or newer; found: $(python3 --version 2>&1 || true)"
    fi
    if ! can_install; then
        apt_install "to make .venv" python3-venv || die "Python's venv is missing. Install python3-venv, or uv."
        python=/usr/bin/python3
    fi
}

# Whether there is anything that packages can be got with.
can_install() {
    command -v uv >/dev/null || "$python" -c 'import ensurepip' 2>/dev/null || "$python" -m pip --version >/dev/null 2>&1
}

# Fill .venv with what is needed to "run", or "all".
fill_venv() {
    local uv groups=(--all-groups) requirements=requirements-dev.txt
    [ "$1" = all ] || groups=(--no-default-groups) requirements=requirements.txt
    if uv=$(find_uv "$python") && "$uv" sync --quiet --frozen --python "$python" --all-extras "${groups[@]}"; then
        return
    fi
    say "uv cannot be used here; using pip with the hashed lock"
    "$python" -m venv --clear .venv || die "Python's venv is missing. Install python3-venv."
    .venv/bin/python -m pip install -q --require-hashes -r "$requirements"
    .venv/bin/python -m pip install -q --no-deps -e .
}

# .venv/.made tells where it is (its scripts hold absolute paths), what it was made from, and what it is good for.
make_venv() {
    local made source wanted=run
    made=$(cat .venv/.made 2>/dev/null || true)
    source="$PWD $(cat uv.lock pyproject.toml scripts/get_htmx.py | cksum)"
    [ "$purpose" = run ] && [ "${made##* }" != all ] || wanted=all
    if [ "$made" = "$source $wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    choose_python
    say "making .venv with $("$python" --version)"
    rm -f .venv/.made
    fill_venv "$wanted"
    .venv/bin/python scripts/get_htmx.py
    echo "$source $wanted" >.venv/.made
}

node_packages() {
    local folder=${1:-tests/clients/node}
    if ! cmp -s $folder/package-lock.json $folder/node_modules/.made; then
        say "getting the Node packages in $folder"
        (PATH=$PWD/.venv/bin:$PATH && cd $folder && npm ci --silent --no-audit --no-fund >&2) || die "npm ci failed in $folder"
        cp $folder/package-lock.json $folder/node_modules/.made
    fi
}

# What the docs' recipes use: each group of packages in an environment of its own, because the groups contradict one another.
recipe_packages() {
    local folder=tests/clients/recipes group uv
    for group in libraries agents aider; do
        if cmp -s $folder/uv.lock $folder/.venv/$group/.made; then
            continue
        fi
        say "getting what the docs' recipes use: $group"
        uv=$(find_uv "$(find_python)") || die "uv is needed, and cannot be had"
        UV_PROJECT_ENVIRONMENT=.venv/$group "$uv" sync --quiet --frozen --only-group $group --project $folder \
            --python "$(find_python)" || die "uv sync failed in $folder for the group $group"
        cp $folder/uv.lock $folder/.venv/$group/.made
    done
}

case $purpose in
run | dev | test | clients | pictures | proxies | soak | bench | bench-pages | bench-ab) make_venv ;;
*) die "no such purpose: $purpose" ;;
esac
case $purpose in
test)
    node_packages # axe-core, which looks at the pages
    need_browser "the tests of the pages run in it"
    need curl "the tests run the README's commands" curl
    need_postgres "the tests run on it"
    need redis-server "the tests run on it" redis-server
    ;;
clients)
    node_packages
    node_packages tests/clients/agents
    node_packages tests/clients/lighthouse
    need chromium "Lighthouse looks at the pages with it" chromium fonts-dejavu-core
    recipe_packages
    need curl "a recipe and the tests use it" curl
    need java "a test runs the HttpClient of Java" default-jdk-headless
    ;;
pictures)
    need_browser "it shows the pages"
    ;;
proxies)
    need nginx "the tests run behind it" nginx-light
    need haproxy "the tests run behind it" haproxy
    need caddy "the tests run behind it" caddy
    node_packages # axe-core, which looks at the pages
    need_browser "the tests of pages below a path run in it"
    ;;
soak)
    need_postgres "the tests run on it"
    need redis-server "the tests run on it" redis-server
    ;;
bench)
    need_postgres "it is measured"
    need redis-server "it is measured" redis-server
    need nginx "the baseline" nginx-light
    need wrk "the load" wrk
    ;;
bench-pages)
    need_postgres "the pages are measured on it too"
    ;;
bench-ab)
    need curl "it finds out when a server is ready" curl
    need nginx "the upstream" nginx-light
    need wrk "the load" wrk
    ;;
esac
