package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/batch"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// endless is a legacy server that begins sessions, and does not answer their end in time.
type endless struct {
	ends time.Duration // how long a DELETE takes; 0: until the caller gives up
}

// Call implements mcp.Caller.
func (s endless) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	switch {
	case c.Lane == mcp.LaneEnd && s.ends > 0:
		<-time.After(s.ends)
		return &mcp.Result{Status: http.StatusOK}, nil
	case c.Lane == mcp.LaneEnd:
		<-ctx.Done()
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Cause: context.Cause(ctx)}
	case c.Lane == mcp.LaneNotification:
		return &mcp.Result{Status: http.StatusAccepted}, nil
	case c.Method() == mcp.MethodInitialize:
		res := says(c, `"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}`)
		res.Header = http.Header{"Mcp-Session-Id": {"s"}}
		return res, nil
	case c.Header.Get("Mcp-Session-Id") == "":
		return says(c, `"error":{"code":-32601,"message":"Method not found"}`), nil
	}
	return says(c, `"result":{}`), nil
}

func says(c *mcp.Call, what string) *mcp.Result {
	return &mcp.Result{Status: http.StatusOK, Body: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,%s}`, c.ID(), what)}
}

// roadOf is a road to next, on which an array has begun a session of the daemon's own.
func roadOf(t *testing.T, d *daemon, name string, next mcp.Caller) *road {
	t.Helper()
	r := &road{
		array: batch.NewArray(batch.ArrayOptions{
			Upstream: name, Next: next, Base: d.base, Partition: func(*mcp.Call) [32]byte { return [32]byte{} },
		}),
		entrance: breaker.NewAdmission(breaker.AdmissionOptions{Upstream: name, MaxInFlight: 1}),
	}
	res, err := r.array.Call(t.Context(), &mcp.Call{
		Lane: mcp.LaneArray, Header: http.Header{}, Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`),
	})
	if err != nil || res.Status != http.StatusOK || !strings.Contains(string(res.Body), `"result"`) {
		t.Fatalf("got %+v, %v", res, err)
	}
	_ = res.Close()
	return r
}

// TestDrainOfManyUpstreams: servers that do not answer the end of a session keep the drain for as long as one of them does,
// and not at all beyond six seconds: what waits for the tiers has to be written before the service manager kills.
func TestDrainOfManyUpstreams(t *testing.T) {
	for name, tt := range map[string]struct {
		server endless
		took   time.Duration
		left   bool
	}{
		"slow":  {endless{ends: 2 * time.Second}, 2 * time.Second, false},
		"hung":  {endless{}, 5 * time.Second, false},
		"never": {endless{ends: time.Minute}, 6 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				door, err := proxy.New(proxy.Options{BodyLimit: 1, Metrics: proxy.NewMetrics(prometheus.NewRegistry())})
				if err != nil {
					t.Fatal(err)
				}
				d := &daemon{log: slog.New(slog.NewTextHandler(&log, nil)), server: new(http.Server), door: door}
				d.base, d.abandon = context.WithCancelCause(context.Background())
				for i := range 10 {
					d.roads = append(d.roads, roadOf(t, d, fmt.Sprint(i), tt.server))
				}
				begun := time.Now()
				if err := d.drain(30 * time.Second); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if left := strings.Contains(log.String(), "left behind"); left != tt.left {
					t.Errorf("the log is\n%s", log.String())
				}
				<-time.After(2 * time.Minute) // those left behind end
			})
		})
	}
}
