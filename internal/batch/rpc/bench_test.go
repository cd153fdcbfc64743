package rpc_test

import (
	"context"
	"fmt"
	"testing"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/mcp"
)

// BenchmarkArray answers arrays of 100 requests, each at once by the stage behind.
func BenchmarkArray(b *testing.B) {
	plain := func(o *rpc.Options) { o.Plain = true }
	for _, x := range []struct {
		name   string
		change func(*rpc.Options)
		header []string
	}{
		{"plain", plain, nil},
		{"legacy", nil, []string{"Mcp-Session-Id", "s"}},
		{"modern", nil, []string{modernHeader, modernVer}},
	} {
		b.Run(x.name, func(b *testing.B) {
			o := rpc.Options{
				Upstream: "test", Buffers: new(mcp.BufferPool), Partition: newPartition, Next: mcp.CallerFunc(benchAnswer),
			}
			if x.change != nil {
				x.change(&o)
			}
			a := rpc.New(o)
			var elements []string
			for i := range 100 {
				elements = append(elements, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"resources/read","params":{"uri":"file:///%d"}}`, i, i))
			}
			c := arrayCall(joinElements(elements), x.header...)
			b.ReportAllocs()
			for b.Loop() {
				res, err := a.Call(b.Context(), c)
				if err != nil || res.Status != 200 {
					b.Fatal(res, err)
				}
				_ = res.Close()
			}
			a.Close()
		})
	}
}

const benchText = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

func newPartition(*mcp.Call) [32]byte { return [32]byte{1} }

// benchAnswer answers with the call's id and a result of 100 bytes, at the cost of one allocation or two.
func benchAnswer(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
	body := make([]byte, 0, 300)
	body = append(append(append(body, `{"jsonrpc":"2.0","id":`...), c.ID()...), `,"result":"`...)
	body = append(append(body, benchText...), `"}`...)
	res := &mcp.Result{Status: 200, Body: body, Checked: true}
	return res, mcp.Scan(body, &res.Message)
}
