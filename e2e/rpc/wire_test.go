// A JSON-RPC server may name any content type.

package rpc

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestPlainUpstreamsOfAnyContentType: a JSON-RPC node that says text/plain, or nothing, answers all the same, and goes on
// getting arrays.
func TestPlainUpstreamsOfAnyContentType(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"text/plain", "text/plain; charset=utf-8", "text/html", "application/json-rpc", "application/octet-stream", ""} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rpc := startRPC(t)
			rpc.spoil = spoil{answer: func(w http.ResponseWriter, answers []string) {
				w.Header()["Content-Type"] = nil
				if kind != "" {
					w.Header().Set("Content-Type", kind)
				}
				_, _ = fmt.Fprint(w, "["+strings.Join(answers, ",")+"]")
			}}
			c := rpcConf(rpc, "batch: {max: 10, window: 1s}")
			single := mcptest.NewServer(t, func(x *mcptest.Exchange) { x.Say(200, kind, x.Answer(`"ok"`)) })
			c.Upstreams["single"] = fmt.Sprintf("{url: %q, protocol: jsonrpc}", single.URL())
			d := harness.Start(t, c)
			a := d.Agent(t)
			if r := a.Must(http.MethodPost, "/rpc/single", rpcRequest("1", "put", "k")); r.Status != 200 || string(r.RPC(t).Result) != `"ok"` {
				t.Errorf("one call: %d %s", r.Status, r.Body)
			}
			for round := range 2 {
				keys := keysOf(fmt.Sprint("round-", round), 10)
				rpc.allRight(t, keys, callAtOnce(t, a, "s", "put", keys), "")
				arrays, singles := rpc.seen()
				if len(arrays) == 0 || len(singles) > 0 {
					t.Errorf("round %d: arrays of %v, %d calls by themselves", round, sizes(arrays), len(singles))
				}
			}
		})
	}
}
