package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/config"
)

// One fault each, below upstreams.docs on line 4.
func TestFaultsOfResilience(t *testing.T) {
	const (
		plain = `means nothing with protocol jsonrpc, which has no MCP in it`
		old   = `means nothing with transport sse, which is only relayed`
	)
	for _, c := range []struct{ text, want string }{
		{`protocol: grpc`, `protocol: must be mcp or jsonrpc, not "grpc"`},
		{`limits: {max_in_flight: 0}`, `limits.max_in_flight: must not be less than 1`},
		{`limits: {max_in_flight: 65536}`, `limits.max_in_flight: must not be more than 65535`},
		{`limits: {queue: -1}`, `limits.queue: must not be less than 0`},
		{`limits: {queue: 1.5}`, `limits.queue: must be a whole number from 0 to 1000000`},
		{`limits: {queue_wait: 0s}`, `limits.queue_wait: must be above 0`},
		{`limits: {queue_wiat: 1s}`, `limits.queue_wiat: is not a known key; did you mean queue_wait?`},
		{`breaker: on`, `breaker: must be a mapping or off`},
		{`breaker: true`, `breaker: must be a mapping or off`},
		{`breaker: 5`, `breaker: must be a mapping, not a number`},
		{`breaker: {window: 500ms}`, `breaker.window: must not be less than 1s`},
		{`breaker: {window: 2h}`, `breaker.window: must not be more than 1h`},
		{`breaker: {min_requests: 0}`, `breaker.min_requests: must not be less than 1`},
		{`breaker: {failure_ratio: 0}`, `breaker.failure_ratio: must be a number above 0, 1 at most`},
		{`breaker: {failure_ratio: 1.5}`, `breaker.failure_ratio: must be a number above 0, 1 at most`},
		{`breaker: {failure_ratio: .nan}`, `breaker.failure_ratio: must be a number above 0, 1 at most`},
		{`breaker: {failure_ratio: half}`, `breaker.failure_ratio: must be a number above 0, 1 at most, not a string`},
		{`breaker: {in_a_row: 0}`, `breaker.in_a_row: must not be less than 1`},
		{`breaker: {slow_call: -1s}`, `breaker.slow_call: must not be negative`},
		{`retry: {max: 11}`, `retry.max: must not be more than 10`},
		{`retry: {max: -1}`, `retry.max: must not be less than 0`},
		{`retry: {budget: 2}`, `retry.budget: must be a number from 0 to 1`},
		{`retry: {budget: -0.1}`, `retry.budget: must be a number from 0 to 1`},
		{`retry: {tools: search}`, `retry.tools: must be a list, not a string`},
		{`retry: {tools: [""]}`, `retry.tools[0]: must be a name or a pattern, such as search_*`},
		{`retry: {tools: [a, a]}`, `retry.tools[1]: is given twice`},
		{`retry: {methods: [getBlock]}`, `retry.methods: means nothing with protocol mcp: what may be sent again goes by the method, and by tools`},
		{`retry: {hedge: true}`, `retry.hedge: needs several urls: the second call goes to another server`},
		{`sessions: reads`, `sessions.mode: must be per-agent or shared, not "reads"`},
		{`sessions: {heal: never}`, `sessions.heal: must be reads or all or off, not "never"`},
		{`sessions: {mode: shared}`, `sessions.mode: means nothing without command`},
		{`batch: {max: 1}`, `batch.max: must not be less than 2`},
		{`batch: {max: 1001}`, `batch.max: must not be more than 1000`},
		{`batch: {window: 0}`, `batch.window: must be above 0`},
		{`batch: {window: 61s}`, `batch.window: must not be more than 1m`},
		{`batch: 5ms`, `batch: must be a mapping, not a string`},
		{`urls: [http://a, http://b]`, `urls: is given beside url: put all into urls`},
		{`<<: {protocol: jsonrpc, transport: http}`, `transport: ` + plain},
		{`<<: {protocol: jsonrpc, oauth: rewrite}`, `oauth: ` + plain},
		{`<<: {protocol: jsonrpc, sessions: {heal: off}}`, `sessions: ` + plain},
		{`<<: {protocol: jsonrpc, streams: {reopen: 1m}}`, `streams: ` + plain},
		{`<<: {protocol: jsonrpc, coalesce: {tools: [a]}}`, `coalesce: ` + plain},
		{`<<: {protocol: jsonrpc, cache: {tools: {a: 1s}}}`, `cache.tools: ` + plain},
		{`<<: {protocol: jsonrpc, cache: {listen: on}}`, `cache.listen: ` + plain},
		{`<<: {protocol: jsonrpc, cache: {ttl: {"": 1s}}}`, `cache.ttl."": must be the exact name of a method`},
		{`<<: {protocol: jsonrpc, cache: {ttl: {"get*": 1s}}}`, `cache.ttl."get*": must be the exact name of a method`},
		{`<<: {protocol: jsonrpc, retry: {tools: [a]}}`, `retry.tools: ` + plain},
		{`<<: {protocol: jsonrpc, retry: {methods: [a, a]}}`, `retry.methods[1]: is given twice`},
		{`<<: {protocol: jsonrpc, retry: {methods: [""]}}`, `retry.methods[0]: must be a name or a pattern, such as search_*`},
		{`<<: {transport: sse, batch: {}}`, `batch: ` + old},
		{`<<: {transport: sse, sessions: {heal: off}}`, `sessions: ` + old},
		{`<<: {transport: sse, retry: {tools: [a]}}`, `retry.tools: ` + old},
	} {
		wantFaults(t, "upstreams:\n  docs:\n    url: https://h/mcp\n    "+c.text+"\n", "f.yaml:4: upstreams.docs."+c.want)
	}
}

// One fault each, on line 2 or where it is said.
func TestFaultsOfURLsAndRPC(t *testing.T) {
	const ok = "upstreams: {docs: {url: https://h/mcp}}\n"
	for _, c := range []struct{ text, want string }{
		{"upstreams:\n  docs:\n    urls: []\n", `f.yaml:3: upstreams.docs.urls: must not be empty`},
		{"upstreams:\n  docs:\n    urls: http://a\n", `f.yaml:3: upstreams.docs.urls: must be a list, not a string`},
		{"upstreams:\n  docs:\n    urls: [http://a/, ftp://b/]\n", `f.yaml:3: upstreams.docs.urls[1]: must be an http:// or https:// URL with a host`},
		{"upstreams:\n  docs:\n    urls: [http://a/, http://a/]\n", `f.yaml:3: upstreams.docs.urls[1]: is given twice`},
		{"upstreams:\n  docs:\n    urls:\n    - http://a/\n    - http://127.0.0.1:7300/mcp/docs\n", `f.yaml:5: upstreams.docs.urls[1]: is the daemon's own address (127.0.0.1:7300); name the server itself`},
		{"upstreams:\n  docs:\n    transport: sse\n    urls: [http://a/, http://b/]\n", `f.yaml:4: upstreams.docs.urls: means nothing with transport sse, which is only relayed`},
		{"upstreams:\n  docs: {}\n", `f.yaml:2: upstreams.docs: has neither url nor command`},
		{ok + "rpc: {concurrency: 0}", `f.yaml:2: rpc.concurrency: must not be less than 1`},
		{ok + "rpc: {concurrency: 1001}", `f.yaml:2: rpc.concurrency: must not be more than 1000`},
		{ok + "rpc: {timeout: 0s}", `f.yaml:2: rpc.timeout: must be above 0`},
		{ok + "rpc: {answers: 1}", `f.yaml:2: rpc.answers: must not be less than 1KiB`},
		{ok + "rpc: {max: 1}", `f.yaml:2: rpc.max: is not a known key; known here: answers, concurrency, timeout`},
		{ok + "limits: {in_flight: 0}", `f.yaml:2: limits.in_flight: must not be less than 1`},
	} {
		wantFaults(t, c.text, c.want)
	}
	var many []string
	for i := range 65 {
		many = append(many, "http://h/"+strings.Repeat("x", i))
	}
	wantFaults(t, "upstreams:\n  docs:\n    urls: ["+strings.Join(many, ",")+"]\n",
		`f.yaml:3: upstreams.docs.urls[64]: there must not be more than 64`)
}

// TestBufferedHoldsABody: what is held together has room for one body at least; the default gives way.
func TestBufferedHoldsABody(t *testing.T) {
	for limits, want := range map[string]int64{
		"{body: 256MiB}": 256 << 20, "{body: 257MiB}": 257 << 20, "{body: 1GiB}": 1 << 30, "{in_flight: 9}": 256 << 20,
		"{buffered: 16MiB}": 16 << 20, "{buffered: 1KiB, body: 1KiB}": 1 << 10, "{body: 1KiB}": 256 << 20,
	} {
		c := mustLoad(t, files{"f.yaml": "upstreams: {docs: {url: http://a/}}\nlimits: " + limits + "\n"}, config.Sources{File: "f.yaml"})
		if got := c.Limits.Buffered; got != want {
			t.Errorf("limits: %s: buffered is %d, want %d", limits, got, want)
		}
	}
}

func TestResilienceArrives(t *testing.T) {
	c := mustLoad(t, files{"f.yaml": `
upstreams:
  docs:
    urls: ["http://a/?k=${env:K}", http://b/]
    limits: {max_in_flight: 3, queue: 0, queue_wait: 1ms}
    breaker: {window: 1m, min_requests: 5, failure_ratio: 1, in_a_row: 2, slow_call: 3s}
    retry: {max: 0, budget: 0, hedge: true, tools: ["search_*"]}
    sessions: {heal: all}
    batch: {max: 7}
  node:
    url: http://c/
    protocol: jsonrpc
    breaker: off
    retry: {methods: [getBlock]}
    batch: {window: 1s}
    cache: {ttl: {getBlock: 10s, tools/list: 1s}}
rpc: {concurrency: 8, timeout: 1m, answers: 1MiB}
limits: {in_flight: 9}
`, "$K": "v"}, config.Sources{File: "f.yaml"})
	docs, node := c.Upstreams[0], c.Upstreams[1]
	urls := []string{}
	for _, u := range docs.URLs {
		urls = append(urls, u.String())
	}
	for i, x := range []struct{ got, want any }{
		{urls, []string{"http://a/?k=v", "http://b/"}},
		{docs.URL.String(), "http://a/?k=v"},
		{docs.Limits, config.UpstreamLimits{MaxInFlight: 3, QueueWait: time.Millisecond}},
		{docs.Breaker, config.Breaker{Window: time.Minute, MinRequests: 5, FailureRatio: 1, InARow: 2, SlowCall: 3 * time.Second}},
		{docs.Retry, config.Retry{Hedge: true, Tools: []string{"search_*"}}},
		{docs.Sessions.Heal, config.HealAll},
		{docs.Batch, config.Batch{Max: 7, Window: 2 * time.Millisecond}},
		{docs.Protocol, config.ProtocolMCP},
		{node.Protocol, config.ProtocolJSONRPC},
		{node.Breaker.Off, true},
		{node.Retry, config.Retry{Max: 2, Budget: 0.2, Methods: []string{"getBlock"}}},
		{node.Batch, config.Batch{Max: 100, Window: time.Second}},
		{node.Cache.TTL, map[string]time.Duration{"getBlock": 10 * time.Second, "tools/list": time.Second}},
		{c.RPC, config.RPC{Concurrency: 8, Timeout: time.Minute, Answers: 1 << 20}},
		{c.Limits.InFlight, 9},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("%d: got %#v, want %#v", i, x.got, x.want)
		}
	}
	const want = "limits.max_in_flight 3; limits.queue 0; limits.queue_wait 1ms; breaker.window 1m; breaker.min_requests 5; " +
		"breaker.failure_ratio 1; breaker.in_a_row 2; breaker.slow_call 3s; retry.max 0; retry.budget 0; retry.hedge true; " +
		"retry.tools search_*; sessions.heal all; batch.max 7; batch.window 2ms"
	if got := docs.String(); !strings.Contains(got, want) || strings.Contains(got, "k=v") {
		t.Errorf("docs: %s", got)
	}
	if got := node.String(); !strings.Contains(got, "protocol jsonrpc; breaker off; retry.methods getBlock; batch.max 100; batch.window 1s") {
		t.Errorf("node: %s", got)
	}
}
