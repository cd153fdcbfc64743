package http1_test

import (
	"context"
	"io"
	"net/url"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient returns a client of the endpoint with the options changed. It is closed when the test ends.
func newClient(tb testing.TB, endpoint string, change ...func(*http1.Options)) *http1.Client {
	tb.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	o := http1.Options{
		URL: u, MaxConnections: 64, MaxIdle: 64,
		ConnectTimeout: mcptest.WaitTimeout, IdleTimeout: 90 * time.Second, MaxAge: 5 * time.Minute,
	}
	for _, f := range change {
		f(&o)
	}
	c, err := http1.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

func post(body string) *http1.Request {
	return &http1.Request{
		Method: "POST", Target: "/mcp", Body: []byte(body),
		Header: header.List{{Name: "content-type", Value: "application/json"}, {Name: "X-Two", Value: "1"}, {Name: "X-Two", Value: "2"}},
	}
}

// do sends and reads the whole answer. err is Do's, or that of reading.
func do(ctx context.Context, c *http1.Client, r *http1.Request) (a *http1.Answer, body string, err error) {
	if a, err = c.Do(ctx, r); err != nil {
		return nil, "", err
	}
	defer func() { _ = a.Close() }()
	b, err := io.ReadAll(a)
	return a, string(b), err
}

// mustDo sends, and wants this body.
func mustDo(tb testing.TB, c *http1.Client, r *http1.Request, want string) *http1.Answer {
	tb.Helper()
	a, body, err := do(context.Background(), c, r)
	if err != nil || body != want {
		tb.Fatalf("got %.100q, %v, want %.100q", body, err, want)
	}
	return a
}

// wantSent checks what an error says of the request.
func wantSent(tb testing.TB, err error, want http1.Sent) {
	tb.Helper()
	e, ok := err.(*http1.Error)
	if !ok {
		tb.Fatalf("got %T %v, want an *http1.Error", err, err)
	}
	if e.Sent != want {
		tb.Errorf("sent %d, want %d (%v)", e.Sent, want, err)
	}
}

func wantIdle(tb testing.TB, c *http1.Client, want int) {
	tb.Helper()
	if open, idle, _ := c.Connections(); open != want || idle != want {
		tb.Errorf("%d connections open, %d idle, want %d", open, idle, want)
	}
}

func answering(raw string) mcptest.Script {
	return func(x *mcptest.Exchange) {
		x.Write(raw)
		x.Whole()
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
