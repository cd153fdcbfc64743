# fluentd-perf. `make help` lists the targets: `make run` to see it work, `make quick` while you work, `make check` and
# `make test` before every commit.

BIN     := bin/fluentd-perf
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# The one command that builds the binary, here and in the image. VCS stamping is off because VERSION says it, and because
# it fails in a checkout that belongs to another user.
BUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

# What gofmt looks at: what is ours, not what npm and Go downloaded.
GOFILES = $(shell find . -name '*.go' -not -path './.cache/*' -not -path '*/node_modules/*')

# Tests that the race detector would change the outcome of (allocations, processor time, a workload of millions of calls), or has
# nothing to find in and takes ten times as long for: what one goroutine does with random bytes. IsolatedCalls run with it too, fewer.
NORACE = Allocat|BufferPoolReuses|HostileFiles|IsolatedCalls|RandomParams|SpansCannotHold|Zipf

.DEFAULT_GOAL := build
.PHONY: help run build setup quick test tests chaos soak story check format vet staticcheck arrows vulncheck cross modules units bench conformance client-conformance sdk-clients docker clean regress regress-record regress-proof performance

## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done

## run: the daemon with a demo server behind it, on 127.0.0.1:7300
run: build
	./$(BIN) demo

## build: the static binary bin/fluentd-perf
build:
	$(BUILD) -o $(BIN) ./cmd/fluentd-perf

## setup: what the tests need besides Go: a C compiler, Node.js, Redis, Postgres, shells, Chromium, and pinned packages in git-ignored folders
setup:
	scripts/need.sh cc node redis postgres pgrep bash zsh fish tcsh chromium
	e2e/setup.sh

## quick: build, vet and the tests of the packages that have changed (BASE=COMMIT: since then), in under a minute for a few of them
quick:
	@scripts/quick.sh $(BASE)

## test: all tests, the end-to-end ones included, under the race detector; what they leave in the temporary directory fails it
test:
	@scripts/own-temp.sh $(MAKE) --no-print-directory tests

# The package that takes longest comes first, so that the others run beside it. `make check` vets. A program that was built with
# the race detector sleeps for a second before its end, so that what still runs may meet a race; those of the tests end by the
# hundred, and have stopped what they started. A race that is being reported is waited for all the same.
tests: setup
	GORACE=atexit_sleep_ms=0 E2E_SETUP=done go test -vet=off -race -timeout 40m ./e2e/relay ./...
	go test -vet=off -timeout 10m -run '$(NORACE)' ./internal/config ./internal/mcp ./internal/upstream/http ./internal/http1 ./internal/cache ./internal/cache/memory ./internal/batch/flight ./internal/daemon ./internal/session/streamable
	go test -vet=off -race -timeout 10m -tags poison ./internal/http1 ./internal/upstream/http

## chaos: a minute of 50 agents working while servers and cache tiers are killed, hung, slowed and cut off (CHAOS_SECONDS, CHAOS_SEED)
chaos: setup
	CHAOS_SECONDS=$${CHAOS_SECONDS:-60} go test -race -count=1 -timeout 20m -v -run '^TestChaos$$' ./e2e/chaos

## soak: twenty minutes of agents and faults, over HTTP and stdio: the daemon's memory, goroutines and descriptors must stay flat (SOAK_SECONDS, SOAK_SEED)
soak: setup
	SOAK_SECONDS=$${SOAK_SECONDS:-1200} go test -timeout $$(($${SOAK_SECONDS:-1200} * 2 + 1800))s -run '^$$' -bench '^BenchmarkSoak$$' -benchtime 1x -v ./e2e/chaos

## check: everything but the tests themselves
check: format vet staticcheck arrows vulncheck cross modules units

format:
	@unformatted=$$(gofmt -s -l $(GOFILES)); test -z "$$unformatted" || { echo "gofmt -s wants to change:"; echo "$$unformatted"; exit 1; }

vet:
	go vet ./...

staticcheck:
	go tool staticcheck ./...

# The import table: who may import whom.
arrows:
	go test -count=1 -run '^TestArrows' .

vulncheck:
	@scripts/vulncheck.sh

# The tests compile there too, which vet looks at.
cross:
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go build ./...
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go vet ./...

modules:
	go mod verify
	go mod tidy -diff

units:
	@scripts/unit.sh

## bench: the packages' benchmarks, then the daemon beside a plain reverse proxy
bench:
	go test -run '^$$' -bench . -benchmem -timeout 30m ./internal/... ./cmd/...
	go test -run '^$$' -bench . -skip '^Benchmark(Planted|SameBuild)$$' -timeout 30m -v ./bench/...

## performance: measure the daemon beside nginx, HAProxy, other proxies and bridges, and write the tables of docs/performance.md (11 minutes)
performance:
	@scripts/need.sh node nginx haproxy wrk || echo "what is missing has no line in the tables"
	@bench/setup.sh || echo "what is missing has no line in the tables"
	go test ./bench -run '^$$' -bench '^BenchmarkPerformance$$' -benchtime 1x -timeout 20m -performance ../docs/performance.md

## story: ten agents with npm's four servers, directly and each way that the daemon has them: processes, memory, time to the first list
story: setup
	go test -timeout 15m -run '^$$' -bench '^BenchmarkStory$$' -benchtime 1x -v ./e2e/stdio

## regress: whether the working tree takes more CPU or allocations than the commit in bench/allocations.json (BASE=COMMIT: than that one)
regress:
	@scripts/regress.sh $(BASE)

## regress-record: measure BASE=COMMIT, HEAD by default, and write its figures to bench/allocations.json
regress-record:
	@scripts/regress.sh --record $(or $(BASE),HEAD)

## regress-proof: whether compare finds a planted sleep, allocation and loop, and alarms at most once in 20 comparisons of one build (8 minutes)
regress-proof:
	go test ./bench -run '^$$' -bench '^Benchmark(Planted|SameBuild)$$' -benchtime 1x -timeout 30m -v

## conformance: the official suite, five times in a row, directly, through the daemon, and of a server over stdio
conformance: setup
	E2E_CONFORMANCE_RUNS=5 go test -count=1 -timeout 30m -v -run '^TestConformance' ./e2e/relay

## client-conformance: the official suite's client scenarios with every official client, directly and through the daemon
client-conformance: setup
	E2E_FULL=1 go test -count=1 -timeout 40m -v -run '^TestClientConformance' ./e2e/relay

## sdk-clients: the client tests of the Go SDK and of mcp-go as they are, and with the daemon built into their clients (Linux)
sdk-clients:
	scripts/sdk-client-tests.sh

## docker: the image fluentd-perf:VERSION
docker:
	docker build --build-arg VERSION=$(VERSION) -t fluentd-perf:$(VERSION) .
	@echo "built fluentd-perf:$(VERSION)"

## clean: what was built and downloaded here
clean:
	rm -rf bin out .cache e2e/node/node_modules bench/peers/node_modules
