# The parts that the scripts in tools/ share: packages, a temporary folder, an ordinary user, a cluster,
# steps that are counted. To be sourced by bash with `set -euo pipefail`.
#
#   $root    the checkout
#   $work    a temporary folder; it is removed at the end, with everything that runs in it
#   $major   after choose_server: the server's major version; $bindir and $pg_config are its own
#   say ...  a heading

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n== %s\n' "$*"; }

give_up() { # give_up MESSAGE
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Runs a command as root, by sudo where the caller is somebody else.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Runs a command as an ordinary user, because PostgreSQL refuses root: the caller, or nobody where that is root.
as_user() { (exec_as_user "$@"); }

# The same in the background; $! is the command itself. clean_up ends it.
start_as_user() {
    exec_as_user "$@" &
    started+=($!)
}

exec_as_user() {
    local stepping_down=()
    [ "$(id -u)" -ne 0 ] || stepping_down=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    exec "${stepping_down[@]}" \
        env PATH="${bindir:+$bindir:}$PATH" HOME="$work" TMPDIR="$work/tmp" LC_ALL=C.UTF-8 "$@"
}

give_to_user() {
    if [ "$(id -u)" -eq 0 ]; then chown -R nobody:nogroup "$@"; fi
}

# --- The temporary folder. ---

started=()     # processes in the background
heartbeat=     # the process that reports progress
no_cluster=    # the file that keeps PostgreSQL's packages from creating a cluster
work=
bindir=

make_workplace() {
    trap clean_up EXIT
    trap 'exit 130' INT # even where the command that was interrupted ends as if nothing had happened
    work=$(mktemp -d "${TMPDIR:-/tmp}/job_alerting.XXXXXX")
    mkdir "$work/tmp"
    give_to_user "$work"
    chmod 755 "$work"
    cd "$work" # the ordinary user may enter it, too
}

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP # a second signal must not end this half done
    set +e
    stop_heartbeat
    [ ${#started[@]} -eq 0 ] || kill "${started[@]}" 2>/dev/null
    [ ! -f "$work/data/postmaster.pid" ] || stop_cluster
    allow_clusters
    cd / && rm -rf "$work"
    exit $status
}

# Runs a command that may be silent for minutes, and reports every ten seconds how far it is.
with_progress() { # with_progress MEASURE COMMAND...: MEASURE is a shell command that prints a line
    local measure=$1 status=0
    shift
    # The loop ends with this script. Its sleep may outlive it, and must not hold a pipe open that somebody reads.
    (while sleep 10 >/dev/null 2>&1 && kill -0 $$; do echo "   $SECONDS s: $(eval "$measure")"; done) &
    heartbeat=$!
    "$@" || status=$?
    stop_heartbeat
    return $status
}

# The same for a command that says too much: its last line is the progress, and its last twenty show a failure.
with_log() { # with_log FILE COMMAND...
    local log=$1
    shift
    with_progress "tail -n 1 '$log' | cut -c 1-100" to_log "$log" "$@" ||
        { tail -n 20 "$log"; return 1; }
}

to_log() { "${@:2}" >"$1" 2>&1; }

stop_heartbeat() {
    [ -n "$heartbeat" ] || return 0
    kill "$heartbeat" 2>/dev/null || true
    wait "$heartbeat" 2>/dev/null || true
    heartbeat=
}

# Runs make as the ordinary user, and reports how many files are compiled in FOLDER.
make_in() { # make_in FOLDER MAKE-ARGUMENT...
    with_progress "find '$1' -name '*.o' 2>/dev/null | wc -l | sed 's/$/ files compiled/'" \
        as_user make -s -j"$(nproc)" "${@:2}"
}

# --- Packages. ---

# Chooses the server to build for and to test: PostgreSQL $PG_MAJOR where the caller says so, else the
# newest that is installed, else the release's own.
choose_server() {
    command -v apt-get >/dev/null || give_up "this machine has no apt-get; Debian 12 or newer is needed"
    major=${PG_MAJOR:-$(installed_server)}
    if [ -z "$major" ]; then
        update_lists
        major=$(server_of_release)
    fi
    [ -n "$major" ] || give_up "no PostgreSQL is installed, and apt knows no package postgresql"
    bindir=/usr/lib/postgresql/$major/bin
    pg_config=$bindir/pg_config
    server_packages=("postgresql-$major" "postgresql-server-dev-$major")
}

installed_server() {
    { dpkg-query -W -f='${db:Status-Status} ${Package}\n' 'postgresql-[0-9]*' 2>/dev/null || true; } |
        sed -n 's/^installed postgresql-\([0-9]\+\)$/\1/p' | sort -n | tail -n 1
}

server_of_release() {
    { apt-cache depends postgresql 2>/dev/null || true; } |
        sed -n 's/^ *Depends: postgresql-\([0-9]\+\)$/\1/p'
}

build_packages=(g++ make git ca-certificates libcurl4-openssl-dev nlohmann-json3-dev
    libkainjow-mustache-dev)

# Installs those packages that are not there yet.
install_packages() {
    local missing=() package
    for package in "$@"; do is_installed "$package" || missing+=("$package"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "Installing ${missing[*]}"
    update_lists || return
    forbid_clusters
    local status=0
    with_log "$work/apt.log" apt_get install -y --no-install-recommends "${missing[@]}" || status=1
    allow_clusters
    return $status
}

# The same for packages that a release may lack: the tests that need them are skipped then.
install_optional() {
    local have=() package
    for package in "$@"; do
        if is_installed "$package" || is_available "$package"; then
            have+=("$package")
        else
            echo "Note: apt knows no package $package: the tests that need it are skipped."
        fi
    done
    install_packages "${have[@]}"
}

is_installed() { dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

is_available() {
    update_lists && apt-cache show --no-all-versions "$1" >/dev/null 2>&1
}

lists_updated=
update_lists() {
    [ -z "$lists_updated" ] || return 0
    apt_get update -qq && lists_updated=1
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"; }

# PostgreSQL's packages create a cluster and start it. A file of our own keeps them from that while
# we install. The name sorts last, so that the file has the last word, and belongs to no other file.
forbid_clusters() {
    local folder=/etc/postgresql-common/createcluster.d
    as_root mkdir -p "$folder"
    no_cluster=$(as_root mktemp "$folder/zz-job_alerting-XXXXXX.conf")
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
}

allow_clusters() {
    [ -n "$no_cluster" ] || return 0
    as_root rm -f "$no_cluster"
    no_cluster=
}

# --- The clone, and the extension. ---

# Clones the committed state to $work/clone. The checkout may belong to somebody else: a caller who runs
# its scripts trusts it.
make_clone() {
    git config --file "$work/gitconfig" safe.directory '*'
    local -x GIT_CONFIG_GLOBAL=$work/gitconfig
    if [ -n "$(git -C "$root" status --porcelain)" ]; then
        echo "Note: changes that are not committed are left out."
    fi
    git clone -q "$root" "$work/clone"
    give_to_user "$work/clone"
}

in_clone() { (cd "$work/clone" && as_user "$@"); }

build_and_install() {
    make_in "$work/clone" -C "$work/clone" CXX="${CXX:-g++}" PG_CONFIG="$pg_config" WERROR=-Werror &&
        as_root make -s -C "$work/clone" install PG_CONFIG="$pg_config" >/dev/null
}

# --- A cluster. ---

# Starts a cluster in $work that is reached by a socket there and nowhere else. $1: more lines of
# configuration.
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

# --- Steps that are counted. ---

passed=0
failed=0
skipped=0
not_available=77 # the status of a step that cannot be taken on this release

# Each step's result is also a line of the file $STEP_RESULTS, where the caller names one.
step() { # step NAME COMMAND...
    local name=$1 begin=$SECONDS status=0 result
    shift
    say "$name"
    "$@" || status=$?
    case $status in
        0) result=passed passed=$((passed + 1)) ;;
        "$not_available") result=skipped skipped=$((skipped + 1)) ;;
        *) result=FAILED failed=$((failed + 1)) ;;
    esac
    echo "-- $name: $result after $((SECONDS - begin)) s"
    [ -z "${STEP_RESULTS:-}" ] || echo "$name=$result" >>"$STEP_RESULTS"
}

# The last word on the steps: a failure, unless so many were taken and none failed.
verdict() { # verdict STEPS
    local counts="$passed passed, $failed failed"
    [ "$skipped" -eq 0 ] || counts+=", $skipped skipped"
    say "$(basename "$0") took $SECONDS s"
    echo "$counts"
    [ "$failed" -eq 0 ] && [ $((passed + skipped)) -eq "$1" ]
}
