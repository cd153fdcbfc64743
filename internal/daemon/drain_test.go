package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/http1/header"
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
		res.Header = header.Of(http.Header{"Mcp-Session-Id": {"s"}})
		return res, nil
	case c.Header.Get("Mcp-Session-Id") == "":
		return says(c, `"error":{"code":-32601,"message":"Method not found"}`), nil
	}
	return says(c, `"result":{}`), nil
}

func says(c *mcp.Call, what string) *mcp.Result {
	return &mcp.Result{Status: http.StatusOK, Body: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,%s}`, c.ID(), what)}
}

// pipelineTo is one to next, in which an array has begun a session of the daemon's own.
func pipelineTo(t *testing.T, d *daemon, name string, next mcp.Caller) *pipeline {
	t.Helper()
	p := &pipeline{
		cancel: func(error) {},
		array: rpc.New(rpc.Options{
			Upstream: name, Next: next, Base: d.base, Partition: func(*mcp.Call) [32]byte { return [32]byte{} },
		}),
		admission: admission.New(admission.Options{Upstream: name, MaxInFlight: 1}),
	}
	res, err := p.array.Call(t.Context(), &mcp.Call{
		Lane: mcp.LaneArray, Header: header.List{}, Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`),
	})
	if err != nil || res.Status != http.StatusOK || !strings.Contains(string(res.Body), `"result"`) {
		t.Fatalf("got %+v, %v", res, err)
	}
	_ = res.Close()
	return p
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
				handler, err := proxy.New(proxy.Options{BodyLimit: 1, Metrics: proxy.NewMetrics(prometheus.NewRegistry())})
				if err != nil {
					t.Fatal(err)
				}
				d := &daemon{log: slog.New(slog.NewTextHandler(&log, nil)), server: new(http.Server), handler: handler}
				d.base, d.abandon = context.WithCancelCause(context.Background())
				for i := range 10 {
					d.pipelines = append(d.pipelines, pipelineTo(t, d, fmt.Sprint(i), tt.server))
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

// serverOf answers every call after so long, or never, with 202 what gets no answer.
func serverOf(takes func(*mcp.Call) time.Duration) mcp.CallerFunc {
	return func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		select {
		case <-time.After(takes(c)):
		case <-ctx.Done():
			f := mcp.Draining()
			f.Cause = context.Cause(ctx)
			return nil, f
		}
		if c.Lane == mcp.LaneRequest {
			return says(c, `"result":{}`), nil
		}
		return &mcp.Result{Status: http.StatusAccepted, Header: header.List{}}, nil
	}
}

// daemonOf is a daemon before one server, without listeners: send brings its requests.
func daemonOf(t *testing.T, server mcp.Caller) *daemon {
	t.Helper()
	handler, err := proxy.New(proxy.Options{
		Upstreams: []proxy.Route{{Name: "s", URL: &url.URL{Scheme: "http", Host: "server.test"}, Caller: server}},
		BodyLimit: 1 << 10, Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{log: slog.New(slog.DiscardHandler), server: new(http.Server), handler: handler}
	d.base, d.abandon = context.WithCancelCause(context.Background())
	return d
}

// send serves one request on a connection of its own, which closes after it. Status 0: the connection broke off.
func (d *daemon) send(verb, path, body string) (status int, answer string) {
	own := d.conns.add((*net.TCPConn)(nil))
	defer func() {
		d.conns.mu.Lock()
		delete(d.conns.all, own)
		d.conns.mu.Unlock()
		if r := recover(); r != nil && r != http.ErrAbortHandler {
			panic(r)
		}
	}()
	r := httptest.NewRequest(verb, "http://localhost"+path, strings.NewReader(body))
	w := httptest.NewRecorder()
	d.conns.handler(d.handler).ServeHTTP(w, r.WithContext(context.WithValue(d.base, connectionKey{}, own)))
	return w.Code, w.Body.String()
}

const (
	aCall        = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`
	aReply       = `{"jsonrpc":"2.0","id":7,"result":{}}`
	aCancel      = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`
	aFarewell    = ""
	never        = time.Hour
	wholeDrain   = time.Minute
	drainIsAbout = 50 * time.Millisecond
)

// TestDrainWithoutAnswers: a notification, an answer or the end of a session to a server that hangs holds the drain for
// five seconds after the last call, a call for all of it.
func TestDrainWithoutAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		bodies      []string // sent at once; aFarewell: a DELETE
		call, other time.Duration
		took        time.Duration
		status      int // of what gets no answer
	}{
		"a notification":           {[]string{aCancel}, 0, never, unansweredGrace, 503},
		"an answer":                {[]string{aReply}, 0, never, unansweredGrace, 503},
		"an array of answers":      {[]string{"[" + aReply + "," + aReply + "]"}, 0, never, unansweredGrace, 503},
		"the end of a session":     {[]string{aFarewell}, 0, never, unansweredGrace, 503},
		"several":                  {[]string{aCancel, aReply, aFarewell}, 0, never, unansweredGrace, 503},
		"one that is slow":         {[]string{aFarewell}, 0, 3 * time.Second, 3 * time.Second, 202},
		"beside a call":            {[]string{aCall, aReply}, 20 * time.Second, never, 20*time.Second + unansweredGrace, 503},
		"slow, and beside a call":  {[]string{aCall, aReply}, 20 * time.Second, 10 * time.Second, 20 * time.Second, 202},
		"beside a call that hangs": {[]string{aCall, aCancel}, never, never, wholeDrain, 503},
		"a call that hangs":        {[]string{aCall}, never, never, wholeDrain, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := daemonOf(t, serverOf(func(c *mcp.Call) time.Duration {
					if c.Lane == mcp.LaneRequest {
						return tt.call
					}
					return tt.other
				}))
				for _, body := range tt.bodies {
					go func() {
						verb := http.MethodPost
						if body == aFarewell {
							verb = http.MethodDelete
						}
						status, answer := d.send(verb, "/mcp/s", body)
						if want := tt.status; body == aCall {
							if failed := strings.Contains(answer, `"reason":"draining"`); status != 200 || failed != (tt.call == never) {
								t.Errorf("the call got %d %s", status, answer)
							}
						} else if status != want || want == 503 && !strings.Contains(answer, `"code":1503`) {
							t.Errorf("%s got %d %s, want %d", body, status, answer, want)
						}
					}()
				}
				synctest.Wait()
				begun := time.Now()
				if err := d.drain(wholeDrain); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took < tt.took || took > tt.took+drainIsAbout {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

// TestDrainRefusesNearTheDeadline: five seconds before it new calls and GETs are refused, and what belongs to calls in flight
// gets through.
func TestDrainRefusesNearTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := daemonOf(t, serverOf(func(c *mcp.Call) time.Duration {
			if c.Method() == mcp.MethodToolsCall {
				return wholeDrain - time.Second
			}
			return 0
		}))
		const list, refused = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, `"id":2,"error":{"code":1503,`
		expect := func(verb, body string, status int, text string) {
			t.Helper()
			if got, answer := d.send(verb, "/mcp/s", body); got != status || !strings.Contains(answer, text) {
				t.Errorf("%s %s got %d %s, want %d %s", verb, body, got, answer, status, text)
			}
		}
		call, ended := make(chan string, 1), make(chan error, 1)
		go func() { _, answer := d.send(http.MethodPost, "/mcp/s", aCall); call <- answer }()
		synctest.Wait()
		go func() { ended <- d.drain(wholeDrain) }()
		<-time.After(wholeDrain - refuseBefore - time.Millisecond)
		expect(http.MethodPost, list, 200, `"result":{}`)
		expect(http.MethodPost, "["+list+"]", 202, "")
		<-time.After(2 * time.Millisecond)
		for range 2 {
			expect(http.MethodPost, list, 200, refused)
			expect(http.MethodPost, "["+list+"]", 503, `"code":1503`)
			expect(http.MethodPost, "["+aReply+","+list+"]", 503, `"code":1503`)
			expect(http.MethodGet, "", 0, "")
			expect(http.MethodPost, aReply, 202, "")
			expect(http.MethodPost, "["+aReply+","+aReply+"]", 202, "")
			expect(http.MethodPost, aCancel, 202, "")
			expect(http.MethodDelete, "", 202, "")
			<-time.After(3 * time.Second)
		}
		if answer := <-call; !strings.Contains(answer, `"result":{}`) {
			t.Errorf("the call in flight got %s", answer)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
