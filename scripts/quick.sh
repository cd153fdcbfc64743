#!/usr/bin/env bash
# quick.sh [BASE]: what to run while one works: go build of everything, go vet and the tests of the packages that have changed
# since BASE, without the race detector. BASE is where this branch left origin/main, or main, unless it is given; what is not
# committed yet counts. The end-to-end tests and the benchmarks are vetted, not run.
set -euo pipefail
cd "$(dirname "$0")/.."

base=${1:-}
for main in origin/main main; do
    [ -n "$base" ] || base=$(git merge-base HEAD "$main" 2>/dev/null || true)
done
git rev-parse --quiet --verify "${base:=HEAD}^{commit}" >/dev/null || {
    echo "quick.sh: there is no commit $base" >&2
    exit 2
}

# package_of FILE prints the package that a file belongs to: the nearest folder above it that has Go files, testdata aside.
package_of() {
    local folder
    folder=$(dirname "$1")
    case /$folder/ in
    */testdata/*) folder=${folder%%testdata*} folder=${folder%/} ;;
    esac
    while [ -n "$folder" ] && [ "$folder" != . ] && ! compgen -G "$folder/*.go" >/dev/null; do folder=$(dirname "$folder"); done
    case $folder in
    '' | .) echo . ;;
    *) echo "./$folder" ;;
    esac
}

documents=
declare -A vetted=() tested=()
while IFS= read -r file; do
    case $file in
    *.md) documents=yes ;;
    esac
    package=$(package_of "$file")
    vetted[$package]=1
    case $package in
    ./e2e* | ./bench*) ;;
    *) tested[$package]=1 ;;
    esac
done < <({ git diff --name-only "$base" && git ls-files --others --exclude-standard; } | sort -u)

if [ ${#vetted[@]} -eq 0 ]; then
    echo "nothing has changed since $base"
    exit 0
fi
go build ./...
go vet "${!vetted[@]}"
[ ${#tested[@]} -eq 0 ] || go test -timeout 5m "${!tested[@]}"
# The commands in the documents are compared with the program's own flags.
[ -z "$documents" ] || [ -n "${tested[./cmd/fluentd-perf]:-}" ] || go test -run '^TestDocuments' ./cmd/fluentd-perf
