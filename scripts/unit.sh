#!/usr/bin/env bash
# unit.sh: checks the systemd units where systemd's tools are installed: their syntax, and that the service's exposure
# is at most 1.5, that of a user's service 7.8.
set -euo pipefail
cd "$(dirname "$0")/../deploy/systemd"

if ! command -v systemd-analyze >/dev/null; then
    echo "systemd units: NOT CHECKED, systemd-analyze is not installed"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp fluentd-perf.service fluentd-perf.socket "$work"
# The binary need not be installed for the syntax to be right.
sed -i 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "$work/fluentd-perf.service"
# verify UNIT...: no complaint about a unit of ours. A key that systemd does not know is one, and alone no failure of the tool's.
verify() {
    local complaints
    complaints=$(systemd-analyze verify "$@" 2>&1) || { echo "$complaints" >&2; exit 1; }
    if grep -F fluentd-perf <<<"$complaints" >&2; then exit 1; fi
}
verify "$work/fluentd-perf.service" "$work/fluentd-perf.socket"

# The unit of a user, which a manager of a user's reads. It wants a directory for its sockets.
mkdir "$work/user"
sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' user/fluentd-perf.service >"$work/user/fluentd-perf.service"
XDG_RUNTIME_DIR=$work verify --user "$work/user/fluentd-perf.service"

if ! systemd-analyze security --help | grep -q -e --threshold; then
    echo "exposure of fluentd-perf.service: NOT CHECKED, systemd is older than 250"
    exit 0
fi

# exposure UNIT MOST: the unit's exposure is at most MOST tenths.
exposure() {
    local report
    report=$(systemd-analyze security --offline=true --threshold="$2" --no-pager "$1") || {
        grep -F '✗' <<<"$report" || true
        echo "the exposure of $1 is above $2 tenths" >&2
        exit 1
    }
    tail -n 1 <<<"$report" | sed 's/^[^O]*//'
}
exposure fluentd-perf.service 15
# Most of what is open here is what servers need that are commands: see the unit.
exposure user/fluentd-perf.service 78
