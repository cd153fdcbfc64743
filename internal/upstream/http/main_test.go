package http_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

func TestMain(m *testing.M) {
	if target := os.Getenv(childTarget); target != "" {
		os.Exit(proxiedChild(target))
	}
	goleak.VerifyTestMain(m)
}

// compat is set in the process that TestCompat starts: everything goes over http.Transport.
var compat = os.Getenv(compatTests) != ""

const compatTests = "UPSTREAM_TEST_COMPAT"

// TestCompat runs the tests of this package once more, over http.Transport.
func TestCompat(t *testing.T) {
	t.Parallel()
	if compat {
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.skip=^TestCompat$", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), compatTests+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// dialer opens connections.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialing puts f around what opens connections.
func dialing(f func(ctx context.Context, dial dialer, network, addr string) (net.Conn, error)) func(*upstreamhttp.Options) {
	return func(o *upstreamhttp.Options) {
		o.SetDial(func(dial dialer, _ bool) dialer {
			return func(ctx context.Context, network, addr string) (net.Conn, error) { return f(ctx, dial, network, addr) }
		})
	}
}

// dialsBy has connections made by f and not by a network.
func dialsBy(f func(context.Context) (net.Conn, error)) func(*upstreamhttp.Options) {
	return dialing(func(ctx context.Context, _ dialer, _, _ string) (net.Conn, error) { return f(ctx) })
}

// options returns the options of an upstream at the URL: the defaults of the configuration.
func options(endpoint *url.URL) upstreamhttp.Options {
	return upstreamhttp.Options{
		Name: "test", URL: endpoint, CheckBody: 4 << 20, EventLimit: 16 << 20, Compat: compat,
		Connections: admission.NewConnections(admission.ConnectionOptions{Upstream: "test", Max: 256, Wait: mcptest.WaitTimeout}),
		Pool:        upstreamhttp.PoolOptions{MaxConnections: 256, MaxIdle: 256, IdleTimeout: 90 * time.Second, MaxAge: 5 * time.Minute},
		Timeouts: upstreamhttp.Timeouts{
			Connect: 5 * time.Second, Handshake: 55 * time.Second, FirstByte: 55 * time.Second, Call: 30 * time.Minute, Idle: 5 * time.Minute,
		},
	}
}

// newUpstream returns an upstream at the URL, with the options changed. It is closed when the test ends.
func newUpstream(tb testing.TB, endpoint string, change ...func(*upstreamhttp.Options)) *upstreamhttp.Upstream {
	tb.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	o := options(target)
	for _, f := range change {
		f(&o)
	}
	u := upstreamhttp.New(o)
	tb.Cleanup(u.Close)
	return u
}

// onLane returns a call on the lane with that body, scanned if it can be.
func onLane(lane mcp.Lane, body string) *mcp.Call {
	c := &mcp.Call{Upstream: "test", Lane: lane, Start: time.Now(), Header: header.Of(http.Header{
		"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"},
		"Mcp-Session-Id": {"s1"}, "User-Agent": {"agent/1"},
	})}
	if body != "" {
		c.Body = []byte(body)
		_ = mcp.Scan(c.Body, &c.Message) // some tests send what is no message
	}
	if lane == mcp.LaneOpaque {
		c.Message = mcp.Message{Method: mcp.MethodOther}
	}
	return c
}

// request returns a legacy request with the id 7, of a method that has to answer soon.
func request() *mcp.Call { return requestOf("tools/list") }

func requestOf(method string) *mcp.Call {
	return onLane(mcp.LaneRequest, fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":{}}`, method))
}

func notification() *mcp.Call {
	return onLane(mcp.LaneNotification, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

// modern makes the call one of 2026-07-28.
func modern(c *mcp.Call) *mcp.Call {
	c.Era, c.Version = mcp.EraModern, mcp.Version20260728
	return c
}

// wantFailure checks that the call failed, and how. More than one sent means that either is true.
func wantFailure(tb testing.TB, err error, code int, reason mcp.Reason, sent ...mcp.Sent) *mcp.Failure {
	tb.Helper()
	f, ok := err.(*mcp.Failure)
	if !ok {
		tb.Fatalf("got %T %v, want a *mcp.Failure", err, err)
	}
	if f.Code != code || f.Reason != reason {
		tb.Errorf("got %d %s (%v), want %d %s", f.Code, f.Reason, f, code, reason)
	}
	for _, s := range sent {
		if f.Sent == s {
			return f
		}
	}
	tb.Errorf("sent %q, want %q (%v)", f.Sent, sent, f)
	return f
}

// mustCall calls and fails the test where the call does.
func mustCall(tb testing.TB, u *upstreamhttp.Upstream, c *mcp.Call) *mcp.Result {
	tb.Helper()
	res, err := u.Call(context.Background(), c)
	if err != nil {
		tb.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
	return res
}

// works calls with an ordinary request and wants its answer.
func works(tb testing.TB, u *upstreamhttp.Upstream) {
	tb.Helper()
	res := mustCall(tb, u, request())
	if res.Status != http.StatusOK || !res.Checked || res.Message.Kind != mcp.KindResult {
		tb.Errorf("got %d, checked %v, %s", res.Status, res.Checked, res.Body)
	}
	closeResult(tb, res)
}

func closeResult(tb testing.TB, res *mcp.Result) {
	tb.Helper()
	if err := res.Close(); err != nil {
		tb.Errorf("closing: %v", err)
	}
}

// textOf reads the answer's body, whole or raw.
func textOf(tb testing.TB, res *mcp.Result) string {
	tb.Helper()
	if res.Raw == nil {
		return string(res.Body)
	}
	b, err := io.ReadAll(res.Raw)
	if err != nil {
		tb.Fatalf("after %d bytes: %v", len(b), err)
	}
	return string(b)
}

// eventsOf reads the stream to its end and returns what came, and the error that ended it.
func eventsOf(events mcp.Events) (all []string, answers int, err error) {
	for {
		ev, err := events.Next()
		if err != nil {
			return all, answers, err
		}
		all = append(all, string(ev.Raw))
		if ev.Answer {
			answers++
		}
	}
}

// metered gives the options metrics of their own and returns what reads them: a sum over all series of a metric that
// have these label values; a histogram counts as its number of observations.
func metered(o *upstreamhttp.Options) func(name string, labels ...string) float64 {
	value, _ := registered(o)
	return value
}

// registered is metered, and returns the registry as well.
func registered(o *upstreamhttp.Options) (value func(name string, labels ...string) float64, reg *prometheus.Registry) {
	reg = prometheus.NewRegistry()
	o.Metrics = upstreamhttp.NewMetrics(reg)
	return func(name string, labels ...string) float64 {
		families, err := reg.Gather()
		if err != nil {
			panic(err)
		}
		sum := 0.0
		for _, f := range families {
			if f.GetName() != "fluentd_perf_"+name {
				continue
			}
			for _, m := range f.GetMetric() {
				values := map[string]bool{}
				for _, l := range m.GetLabel() {
					values[l.GetValue()] = true
				}
				match := true
				for _, l := range labels {
					match = match && values[l]
				}
				if match {
					sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
		}
		return sum
	}, reg
}

func saying(status int, contentType, body string, fields ...string) mcptest.Script {
	return mcptest.Saying(status, contentType, body, fields...)
}

// rawly writes these bytes and closes the connection in good order.
func rawly(bytes string) mcptest.Script {
	return func(x *mcptest.Exchange) {
		x.Write(bytes)
		x.Close()
	}
}
