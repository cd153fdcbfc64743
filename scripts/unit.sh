#!/usr/bin/env bash
# unit.sh: checks the systemd units where systemd's tools are installed: their syntax, and that the service's exposure
# is at most 1.5.
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
systemd-analyze verify "$work/fluentd-perf.service" "$work/fluentd-perf.socket"

if ! systemd-analyze security --help | grep -q -e --threshold; then
    echo "exposure of fluentd-perf.service: NOT CHECKED, systemd is older than 250"
    exit 0
fi

# The threshold is in tenths.
report=$(systemd-analyze security --offline=true --threshold=15 --no-pager fluentd-perf.service) || {
    grep -F '✗' <<<"$report" || true
    echo "the exposure of fluentd-perf.service is above 1.5" >&2
    exit 1
}
tail -n 1 <<<"$report" | sed 's/^[^O]*//'
