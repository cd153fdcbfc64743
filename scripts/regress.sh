#!/usr/bin/env bash
# regress.sh [BASE]: is the working tree worse than the commit BASE? Builds both, has them take turns at the scenario memory, and
# compares: CPU with BASE, allocations with BASE and with the committed figures in bench/allocations.json. BASE is the commit of
# those unless it is given. ROUNDS (default 7, at least 5) is how many turns each has. Exit code 4: it is worse.
#
# regress.sh --record BASE measures BASE and writes bench/allocations.json.
set -euo pipefail
cd "$(dirname "$0")/.."

figures=bench/allocations.json
rounds=${ROUNDS:-7}
mode=compare
if [ "${1:-}" = --record ]; then
    mode=record
    shift
fi
base=${1:-}
if [ -z "$base" ] && [ "$mode" = compare ]; then # the first version in it is that of what was measured
    base=$(sed -n '1s/^[^{]*{[^{]*"program": {"version": "\([^"]*\)".*/\1/p' "$figures")
fi
commit=$(git rev-parse --quiet --verify "${base:=HEAD}^{commit}") || {
    echo "regress.sh: there is no commit $base" >&2
    exit 2
}

temporary=$(mktemp -d)
cleanup() {
    git worktree remove --force "$temporary/tree" 2>/dev/null || true
    rm -rf "$temporary"
}
trap cleanup EXIT

# build TREE VERSION PROGRAM builds what is in a tree.
build() {
    (cd "$1" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$2" -o "$3" ./cmd/fluentd-perf)
}

# measure PROGRAM FILE appends one report of one round, in a line. The distributions of times are left out: nothing here reads them.
measure() {
    "$1" benchmark --scenario memory --requests 2000 --rounds 1 --quiet -o json | sed 's/"hdr": ".*"/"hdr": ""/; s/^ *//' | tr -d '\n' >>"$2"
    echo >>"$2"
}

git worktree add --quiet --detach "$temporary/tree" "$commit"
build "$temporary/tree" "$(git rev-parse --short=12 "$commit")" "$temporary/old"

if [ "$mode" = record ]; then
    for _ in $(seq "$rounds"); do measure "$temporary/old" "$temporary/old.json"; done
    mv "$temporary/old.json" "$figures"
    echo "wrote $figures: $(git log -1 --format='%h %s' "$commit")"
    exit 0
fi

build . working-tree "$temporary/new"
for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    # The order is turned round each time, so that neither is always the second.
    order="old new"
    [ $((round % 2)) = 1 ] || order="new old"
    for side in $order; do measure "$temporary/$side" "$temporary/$side.json"; done
done

failed=0
"$temporary/new" benchmark compare "$temporary/old.json" "$temporary/new.json" --fail-on 'cpu>+10%,allocs>+0%' || failed=$?
echo
"$temporary/new" benchmark compare "$figures" "$temporary/new.json" --fail-on 'allocs>+1%' || {
    code=$?
    [ "$code" -lt "$failed" ] || failed=$code
}
exit "$failed"
