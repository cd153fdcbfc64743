#!/usr/bin/env bash
# need.sh TOOL...: makes sure that the named tools are there. What is missing is installed with apt-get where that is
# allowed (root on Debian or Ubuntu); elsewhere it says what to install and fails.
#
# Tools: cc (a C compiler, for the race detector), node (with npm).
set -euo pipefail

packages_of() {
    case $1 in
    cc) echo gcc libc6-dev ;;
    node) echo nodejs npm ;;
    *) echo "need.sh: unknown tool: $1" >&2 && exit 2 ;;
    esac
}

present() {
    case $1 in
    cc) command -v "$(go env CC)" >/dev/null ;;
    node) command -v node >/dev/null && command -v npm >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

missing=()
packages=()
for tool in "$@"; do
    present "$tool" && continue
    missing+=("$tool")
    # shellcheck disable=SC2207 # the names have no blanks
    packages+=($(packages_of "$tool"))
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${packages[*]} with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
else
    echo "Missing: ${missing[*]}. Please install ${packages[*]} (as root on Debian or Ubuntu: apt-get install ${packages[*]}) and try again." >&2
    exit 1
fi
