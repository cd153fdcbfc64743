#!/usr/bin/env bash
# sdk-client-tests.sh: runs the client tests of the official Go SDK and of mcp-go, as they are published, twice: as they
# are, and in a copy whose client constructors put a daemon in front of every server. Prints what differs, test by test,
# and fails where that is not in sdk-clients/expected.txt. Linux only: the daemons end with the test that started them.
#
# Only tests that came to start a daemon count. Each runs in a process of its own, directly and through, one after the
# other. Takes a quarter of an hour on two cores.
#
# Environment:
#   FLUENTD_BINARY    the daemon (default: built from the tree)
#   SDK_TEST_TIMEOUT  how long one test may take (default 60s)
#   SDK_TESTS         only tests whose name matches this extended regular expression
#   SDK_KEEP          a folder that keeps the output of every test and daemon
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD/scripts/sdk-clients
timeout=${SDK_TEST_TIMEOUT:-60s}

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
keep=${SDK_KEEP:-$work/out}
mkdir -p "$keep" "$work/run"
export FLUENTD_RUN=$work/run
if [ -z "${FLUENTD_BINARY:-}" ]; then
    FLUENTD_BINARY=$work/fluentd-perf
    CGO_ENABLED=0 go build -buildvcs=false -o "$FLUENTD_BINARY" ./cmd/fluentd-perf
fi
daemon=$(realpath "$FLUENTD_BINARY")

# copy MODULE VERSION: a copy of a module to change, in $work/NAME.
copy() {
    local dir
    dir=$(cd "$work" && go mod download -json "$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    cp -r "$dir" "$work/${1##*/}"
    chmod -R u+w "$work/${1##*/}"
}

# patch FILE FROM TO: puts a call of fluentdURL into a constructor, in exactly one place.
patch() {
    [ "$(grep -cF "$2" "$1")" = 1 ] || { echo "$1: '$2' is not there once" >&2; exit 1; }
    FROM=$2 TO=$3 perl -pi -e 's/\Q$ENV{FROM}\E/$ENV{TO}/' "$1"
}

# front PACKAGE FOLDER: adds the helper to a package.
front() { sed "s/^package PACKAGE/package $1/" "$here/front.go.txt" >"$2/fluentd_front.go"; }

# results FILE: "NAME PASS", "NAME FAIL" or "NAME SKIP" of a test and its subtests; of what did not end, only the test's
# own name with its end.
results() { sed -nE 's/^ *--- (PASS|FAIL|SKIP): ([^ ]+) .*/\2 \1/p' "$1" | sort -u; }

# once BINARY TEST: runs one test; FLUENTD_BINARY says how. Its output goes to standard output.
once() {
    timeout --kill-after=5s "$timeout" "$1" -test.run "^$2\$" -test.v -test.timeout "$timeout" 2>&1 || true
}

# compare NAME FOLDER: all tests of the package in a folder, directly and through.
compare() {
    local name=$1 folder=$2 binary test used
    binary=$work/${name//\//-}.test
    (cd "$folder" && go test -c -o "$binary" .)
    cd "$folder"
    mkdir -p "$keep/$name"
    for test in $("$binary" -test.list . | grep '^Test' | grep -E "${SDK_TESTS:-.}"); do
        used=$keep/$name/$test.daemons
        mkdir -p "$used"
        FLUENTD_BINARY=$daemon FLUENTD_FOLDER=$used once "$binary" "$test" >"$keep/$name/$test.through"
        if rmdir "$used" 2>/dev/null; then
            rm "$keep/$name/$test.through"
            continue
        fi
        FLUENTD_BINARY='' once "$binary" "$test" >"$keep/$name/$test.direct"
        results "$keep/$name/$test.direct" | sed "s|^|$name |" >>"$work/direct"
        results "$keep/$name/$test.through" | sed "s|^|$name |" >>"$work/through"
    done
    cd - >/dev/null
}

touch "$work/direct" "$work/through"

copy github.com/modelcontextprotocol/go-sdk v1.8.0
sdk=$work/go-sdk
patch "$sdk/mcp/streamable.go" 't.Endpoint,' 'fluentdURL(t.Endpoint, ""),'
patch "$sdk/mcp/sse.go" 'url.Parse(c.Endpoint)' 'url.Parse(fluentdURL(c.Endpoint, "    transport: sse\n"))'
patch "$sdk/mcp/sse.go" '"GET", c.Endpoint, nil' '"GET", parsedURL.String(), nil'
front mcp "$sdk/mcp"

copy github.com/mark3labs/mcp-go v1.2.1
go_mcp=$work/mcp-go
patch "$go_mcp/client/transport/streamable_http.go" 'url.Parse(serverURL)' 'url.Parse(fluentdURL(serverURL, ""))'
patch "$go_mcp/client/transport/sse.go" 'url.Parse(baseURL)' 'url.Parse(fluentdURL(baseURL, "    transport: sse\n"))'
front transport "$go_mcp/client/transport"

compare go-sdk/mcp "$sdk/mcp"
compare mcp-go/client "$go_mcp/client"
compare mcp-go/client/transport "$go_mcp/client/transport"

# What differs: "PACKAGE TEST DIRECT THROUGH", - for what did not end.
awk 'NR == FNR { direct[$1 " " $2] = $3; next }
     { key = $1 " " $2; seen[key] = 1; d = key in direct ? direct[key] : "-"; if (d != $3) print key, d, $3 }
     END { for (key in direct) if (!(key in seen)) print key, direct[key], "-" }' \
    "$work/direct" "$work/through" | sort >"$work/differ"

for package in go-sdk/mcp mcp-go/client mcp-go/client/transport; do
    for way in direct through; do
        awk -v p=$package -v w=$way '$1 == p { n[$3]++ } END { printf "%-24s %-8s %d passed, %d failed, %d skipped\n", p, w, n["PASS"], n["FAIL"], n["SKIP"] }' "$work/$way"
    done
done
# Expected lines have the same form; those that may differ count only where they do.
lines() { { grep -E "${SDK_TESTS:-.}" "$here/expected.txt" || true; } | { grep -E "$1" || true; } | sed 's/^? *//'; }
lines '^[^#?]' | sort >"$work/wanted"
lines '^[?]' | sort | comm -12 - "$work/differ" | sort - "$work/wanted" >"$work/expected"
echo "differ as expected: $(comm -12 "$work/differ" "$work/expected" | wc -l)"
comm -23 "$work/differ" "$work/expected" | sed 's/^/NOT EXPECTED: /'
comm -13 "$work/differ" "$work/expected" | sed 's/^/EXPECTED, BUT NO DIFFERENCE: /'
cmp -s "$work/differ" "$work/expected"
