# What tools/check, tools/mail and tools/demo share: packages, a place to work, an ordinary user,
# steps that are counted, a cluster.
# To be sourced by bash with `set -euo pipefail`.
#
#   $root    the checkout
#   $work    a temporary folder, removed at the end with all that runs in it
#   say ...  a heading

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pg_config=/usr/lib/postgresql/15/bin/pg_config
bindir=/usr/lib/postgresql/15/bin

say() { printf '\n== %s\n' "$*"; }

# As root; by sudo where we are not.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# As an ordinary user, which PostgreSQL insists on: the caller, or nobody where that is root.
as_user() { (exec_as_user "$@"); }

# The same in the background; $! is then the command itself. It is ended when we end.
start_as_user() {
    exec_as_user "$@" &
    started+=($!)
}

exec_as_user() {
    local stepping_down=()
    [ "$(id -u)" -ne 0 ] || stepping_down=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    exec "${stepping_down[@]}" \
        env PATH="$bindir:$PATH" HOME="$work" TMPDIR="$work/tmp" LC_ALL=C.UTF-8 "$@"
}

give_to_user() {
    if [ "$(id -u)" -eq 0 ]; then chown -R nobody:nogroup "$@"; fi
}

# Installs the packages that are not there yet. PostgreSQL's would create a cluster and start it;
# we need none, and leave none behind.
install_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "Installing ${missing[*]}"
    local no_cluster=/etc/postgresql-common/createcluster.d/job_alerting.conf
    as_root mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    as_root rm -f "$no_cluster"
}

build_packages=(g++ make git ca-certificates postgresql-15 postgresql-server-dev-15
    libcurl4-openssl-dev nlohmann-json3-dev libkainjow-mustache-dev)

make_workplace() {
    started=()
    work=$(mktemp -d "${TMPDIR:-/tmp}/job_alerting.XXXXXX")
    mkdir "$work/tmp"
    trap clean_up EXIT
    give_to_user "$work"
    chmod 755 "$work"
    cd "$work" # where the ordinary user may be, too
}

clean_up() {
    local status=$?
    trap - EXIT
    [ ${#started[@]} -eq 0 ] || kill "${started[@]}" 2>/dev/null || true
    [ ! -f "$work/data/postmaster.pid" ] || stop_cluster
    rm -rf "$work"
    exit $status
}

# A clone of what is committed, in $work/clone: what others will get. The checkout may belong to
# somebody else: whoever runs its scripts trusts it.
make_clone() {
    git config --file "$work/gitconfig" safe.directory '*'
    local -x GIT_CONFIG_GLOBAL=$work/gitconfig
    if [ -n "$(git -C "$root" status --porcelain)" ]; then
        echo "Note: what is not committed is not part of this."
    fi
    git clone -q "$root" "$work/clone"
    give_to_user "$work/clone"
}

in_clone() { (cd "$work/clone" && as_user "$@"); }

passed=0
failed=0
step() { # step NAME COMMAND...
    local name=$1 begin=$SECONDS
    shift
    say "$name"
    if "$@"; then
        passed=$((passed + 1))
        echo "-- $name: passed in $((SECONDS - begin)) s"
    else
        failed=$((failed + 1))
        echo "-- $name: FAILED after $((SECONDS - begin)) s"
    fi
}

# The last word on the steps: a failure, unless so many passed and none failed.
verdict() { # verdict STEPS
    say "$(basename "$0") took $SECONDS s"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -eq "$1" ]
}

build_and_install() {
    as_user make -s -C "$work/clone" -j"$(nproc)" PG_CONFIG="$pg_config" WERROR=-Werror &&
        as_root make -s -C "$work/clone" install PG_CONFIG="$pg_config" >/dev/null
}

# A cluster in $work, reached by a socket there and nowhere else. $1: more lines of configuration.
start_cluster() {
    as_user initdb -D "$work/data" -U postgres -A trust -E UTF8 --no-sync >/dev/null
    as_user tee -a "$work/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
unix_socket_directories = '$work'
fsync = off
$1
CONF
    as_user pg_ctl -s -w -D "$work/data" -l "$work/server.log" start
    export PGHOST="$work" PGUSER=postgres PGDATABASE=postgres
}

stop_cluster() { as_user pg_ctl -s -w -D "$work/data" -m immediate stop || true; }
