#!/usr/bin/env bash
# need.sh TOOL...: makes sure that the named tools are there. What is missing is installed with apt-get where that is
# allowed (root on Debian or Ubuntu); elsewhere it says what to install and fails.
#
# Tools: cc (a C compiler, for the race detector), node (with npm), redis (redis-server), postgres (a Postgres server
# with initdb, in the PATH or where Debian keeps it), pgrep, the shells bash, zsh, fish and tcsh, chromium (for what is drawn for
# browsers; one without windows will do), and what `make performance` measures beside the daemon: nginx, haproxy and wrk. Tests
# start servers of their own: an installation starts no service, has none started at the next boot, and makes no database.
set -euo pipefail

packages_of() {
    case $1 in
    cc) echo gcc libc6-dev ;;
    node) echo nodejs npm ;;
    redis) echo redis-server ;;
    postgres) echo postgresql ;;
    pgrep) echo procps ;;
    chromium) echo chromium-headless-shell ;;
    nginx) echo nginx-light ;;
    haproxy | wrk) echo "$1" ;;
    bash | zsh | fish | tcsh) echo "$1" ;;
    *) echo "need.sh: unknown tool: $1" >&2 && exit 2 ;;
    esac
}

present() {
    case $1 in
    cc) command -v "$(go env CC)" >/dev/null ;;
    node) command -v node >/dev/null && command -v npm >/dev/null ;;
    redis) command -v redis-server >/dev/null ;;
    postgres) command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
    chromium) command -v chromium-headless-shell || command -v chromium || command -v google-chrome ;;
    nginx | haproxy) PATH=$PATH:/usr/sbin command -v "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# What an installation puts into place for as long as it takes; a file that was there before is somebody's own and stays.
placed=()
place() { # FILE MODE, its text on standard input
    [ -e "$1" ] && return
    place_folder "${1%/*}"
    placed+=("$1")
    install -m "$2" /dev/stdin "$1"
}
place_folder() {
    [ -d "$1" ] && return
    place_folder "${1%/*}"
    placed+=("$1")
    mkdir "$1"
}
take_away() {
    local i
    for ((i = ${#placed[@]} - 1; i >= 0; i--)); do
        if [ -d "${placed[i]}" ]; then
            rmdir --ignore-fail-on-non-empty "${placed[i]}"
        else
            rm -f "${placed[i]}"
        fi
    done
}

# Installs packages without their services: policy-rc.d says no to every start (invoke-rc.d(8)), and postgresql-common
# looks there before it makes its first cluster (pg_createcluster(1)).
install_packages() {
    trap take_away EXIT
    place /usr/sbin/policy-rc.d 755 <<<$'#!/bin/sh\nexit 101'
    place /etc/postgresql-common/createcluster.d/fluentd-perf.conf 644 <<<'create_main_cluster = false'
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# What packages would start at the next boot. Postgres has no cluster, so there is nothing of it to start.
disable_services() {
    local package
    for package in "$@"; do
        case $package in redis-server | haproxy) ;; nginx-light) package=nginx ;; *) continue ;; esac
        command -v systemctl >/dev/null || return 0
        systemctl --quiet disable "$package" 2>/dev/null || echo "$package is installed; systemctl could not disable its service" >&2
    done
}

missing=()
packages=()
for tool in "$@"; do
    of_tool=$(packages_of "$tool") # a subshell's exit would be lost further down
    present "$tool" >/dev/null && continue
    missing+=("$tool")
    # shellcheck disable=SC2206 # the names have no blanks
    packages+=($of_tool)
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${packages[*]} with apt-get"
    install_packages "${packages[@]}"
    disable_services "${packages[@]}"
else
    echo "Missing: ${missing[*]}. Please install ${packages[*]} (as root on Debian or Ubuntu: apt-get install ${packages[*]}) and try again." >&2
    exit 1
fi
