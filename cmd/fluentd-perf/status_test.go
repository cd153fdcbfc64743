package main

import (
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/proxy"
	"fluentd-perf/internal/session"
)

// TestStatusTables: what people read.
func TestStatusTables(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	a := api.Status{
		Version: "v1", Started: now.Add(-3 * time.Minute), Now: now, Addresses: []string{"127.0.0.1:7300", "[::1]:7300"}, InFlight: 3,
		Upstreams: []api.UpstreamStatus{
			{
				Upstream: "docs", Hosts: []string{"a.example", "b.example:8080"}, Sessions: &session.Status{Sessions: 5, Healed: 2, GaveUp: 1},
				Calls: []proxy.CallStatus{
					{Request: "a-1", Upstream: "docs", AgeMs: 41_500, Method: "tools/call", Tool: "search\x1b[2J", Agent: "coder"},
					{Request: "a-2", Upstream: "docs", AgeMs: 20, Method: "tools/list", Agent: "127.0.0.1:5"},
				}, CallsNow: 3,
				Status: dispatch.Status{
					Endpoints: []dispatch.EndpointStatus{
						{Breaker: breaker.Closed, InFlight: 2}, {Breaker: breaker.Open, RetryAfterMs: 1234, Trouble: &dispatch.Trouble{
							Since: now.Add(-90 * time.Second), Failures: 5, Reason: "connect", Message: "could not reach the server: connection refused",
						}},
					},
					InFlight: 2, Queued: 7, Retries: 4, LastError: &dispatch.LastError{Reason: "broke_off", Endpoint: 0, At: now.Add(-90 * time.Second)},
				},
			},
			{Upstream: "node", Hosts: []string{"127.0.0.1:8545"}, Status: dispatch.Status{Endpoints: []dispatch.EndpointStatus{{Breaker: dispatch.BreakerOff, InFlight: 1}}}},
			{
				Upstream: "files", Hosts: []string{"npx …"}, Sessions: &session.Status{Sessions: 2},
				Status: dispatch.Status{Endpoints: []dispatch.EndpointStatus{{Breaker: breaker.Closed}}}, ProcessesNow: 3, Package: "@s/files@1.2.3",
				Ready: &api.Ready{Spare: 1, Used: 2, Remembered: 3, WithoutSpares: "it asks"},
				Processes: []api.Process{
					{PID: 4711, AgeMs: 61_000, State: "busy", Sessions: 1, Processes: 3, PSS: 80 << 20, CPUMs: 1_500, Stderr: "ready \x1b[2J"},
					{PID: 4712, AgeMs: 1_000, State: "idle", Shared: true, Processes: 1},
					{PID: 4713, AgeMs: 900_000, State: "idle", Sessions: 1, Processes: 1, CPUMs: 800_000, BusyMs: 720_000},
					{State: "starting"},
				},
			},
		},
		Packages: &api.Packages{Installs: 4, InUse: 2, Bytes: 3 << 20},
		Tiers:    []cache.TierReport{{Tier: "memory", Entries: 3, Bytes: 1 << 20}, {Tier: "redis", Entries: -1, Bytes: -1, Breaker: breaker.Open, Error: "dial \x1b[2J"}},
	}
	var b strings.Builder
	if err := statusTables(&b, a); err != nil {
		t.Fatal(err)
	}
	const want = `fluentd-perf v1, up 3m0s, on 127.0.0.1:7300, [::1]:7300, 3 calls in flight

UPSTREAM  ENDPOINT        BREAKER                IN FLIGHT  OLDEST QUEUE  RETRIES  HEDGES  SESSIONS  HEALED  LOST  LAST ERROR
docs      a.example       closed                 2          41.5s  7      4        0       5         2       1     broke_off, 1m30s ago
          b.example:8080  open, next try in 1.2s  0                                                         for 1m30s, 5 times: could not reach the server: connection refused
node      127.0.0.1:8545  off                    1          -      0      0        0       -         -       -     -
files     npx … = @s/files@1.2.3 (3)  closed                 0          -      0      0        0       2         0       0     -

TIER    ENTRIES  SIZE     QUEUE  PENDING  BREAKER  LAST ERROR
memory  3        1.0 MiB  0      0     -        -
redis   -        -        0      0     open     dial ?[2J

packages of npx commands: 4 installed, 2 in use, 3.0 MiB
`
	if got, want := squeezed(b.String()), squeezed(want); got != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	const wantCalls = `UPSTREAM  AGE         METHOD      TOOL         AGENT        REQUEST
docs      41.5s       tools/call  search?[2J   coder        a-1
docs      20ms        tools/list  -            127.0.0.1:5  a-2
docs      and 1 more
`
	const wantProcesses = `UPSTREAM  PID   AGE   STATE     SESSIONS  PROCESSES  MEMORY (PSS)  CPU   LAST LINE OF STDERR
files     4711  1m1s  busy      1         3          80.0 MiB      1.5s  ready ?[2J
files     4712  1s    idle      shared    1          -             0s    -
files     4713  15m0s idle      1         1          -             13m20s, a core for 12m0s without a call  -
files     -     0s    starting  0         0          -             0s    -

UPSTREAM  SPARE  USED  REMEMBERED  WITHOUT SPARES BECAUSE
files     1      2     3           it asks
`
	b.Reset()
	if err := processTable(&b, a); err != nil {
		t.Fatal(err)
	}
	if got, want := squeezed(b.String()), squeezed(wantProcesses); got != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := callTable(&b, a); err != nil {
		t.Fatal(err)
	}
	if got, want := squeezed(b.String()), squeezed(wantCalls); got != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// squeezed makes one blank of many.
func squeezed(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}
