package window_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/batch/window"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// BenchmarkWindow is a hundred calls that leave as one array, with a server that answers from what it was sent. An operation is
// one array.
func BenchmarkWindow(b *testing.B) {
	const size = 100
	server := mcp.CallerFunc(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		body := bytes.ReplaceAll(c.Body, []byte(`"method":"getBlock","params":[1]`), []byte(`"result":"0x1b4"`))
		return &mcp.Result{Status: 200, Header: header.List{}, Body: body}, nil
	})
	w := window.New(window.Options{
		Repeatable: func(*mcp.Call) bool { return false },
		Upstream:   "node", Next: server, Max: size, Window: time.Minute, Buffers: new(mcp.BufferPool),
		Partition: func(*mcp.Call) (p [32]byte) { return p },
	})
	calls := make([]*mcp.Call, size)
	for i := range calls {
		calls[i] = plainCall("1", "getBlock", 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		var wg sync.WaitGroup
		for _, c := range calls {
			wg.Go(func() {
				res, err := w.Call(context.Background(), c)
				if err != nil {
					b.Error(err)
					return
				}
				_ = res.Close()
			})
		}
		wg.Wait()
	}
	w.Wait()
}
