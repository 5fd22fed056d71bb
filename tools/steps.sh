# The tests that every server and compiler has to pass, one function a step. tools/suite and tools/check
# take them. To be sourced after lib.sh. $CXX names the compiler: g++ by default.

# Installs the packages that these steps need. Call choose_server before it.
install_for_steps() { # install_for_steps MORE-PACKAGE...
    install_packages "${build_packages[@]}" "${server_packages[@]}" libgtest-dev \
        libio-socket-ssl-perl libipc-run-perl libnss-wrapper python3 python3-aiosmtpd \
        python3-jsonschema tini "$@"
    # valgrind needs libc6-dbg to recognise what its suppressions name.
    install_optional "postgresql-$major-cron" "postgresql-$major-pgtap" valgrind libc6-dbg \
        libtap-parser-sourcehandler-pgtap-perl
    unpack_mail_server
}

# Exim for 066_mail_server. It is unpacked and not installed: its package would start it, and remove
# another mail server.
unpack_mail_server() {
    local libraries
    update_lists
    mapfile -t libraries < <(apt-cache depends exim4-daemon-light |
        sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
    install_packages "${libraries[@]}"
    mkdir "$work/exim"
    (cd "$work/exim" && apt_get download -qq exim4-daemon-light && dpkg -x ./*.deb .)
    chmod -R u-s,a+rX "$work/exim" # set-user-ID, it would drop LD_PRELOAD, and fail
    export EXIM=$work/exim/usr/sbin/exim4
}

unit_tests() { # unit_tests [SANITIZERS]
    make_in "$work/tmp/unit${1:-}" -C "$work/clone/test/unit" CXX="${CXX:-g++}" \
        BUILD="$work/tmp/unit${1:-}" SANITIZE="${1:-}" check
}

regress() {
    as_user make -s -C "$work/clone" installcheck PG_CONFIG="$pg_config" TAP_TESTS= && return
    find "$work/clone" -name 'regression.diffs' -exec cat {} +
    return 1
}

# Tests kill servers, and start them again on the same data: only when somebody has asked how the old
# one ended. In a container process 1 may not care, hence tini.
tap_tests() {
    mount_key
    as_user tini -s -- make -s -C "$work/clone" installcheck PG_CONFIG="$pg_config" REGRESS= \
        PROVE_FLAGS="-j3 --timer" && return
    grep -lE 'not ok|exited with' "$work"/clone/tmp_check/log/regress_log_* | xargs -r tail -n 30
    return 1
}

# A key as it is mounted into a container: root's, and readable by the server's group.
mount_key() {
    echo SG.canary-key-that-root-mounted.FFFFFFFFFFFFFFFFFFFFFFFF |
        as_root install -m 0640 -o root -g "$(as_user id -g)" /dev/stdin "$work/mounted_key"
    export MOUNTED_KEY_FILE=$work/mounted_key
}

pgtap_tests() {
    [ -f "$("$pg_config" --sharedir)/extension/pgtap.control" ] ||
        { echo "pgTAP is not installed for PostgreSQL $major"; return $not_available; }
    as_user createdb pgtap &&
        as_user psql -qX -d pgtap -c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION job_alerting' &&
        in_clone bash -c 'pg_prove -d pgtap test/pgtap/*.sql'
}
