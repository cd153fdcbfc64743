package http_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

// routes answers by path: a number and a Location is a redirect, else Minimal; it echoes what it got.
func routes(table map[string]string) mcptest.Script {
	return func(x *mcptest.Exchange) {
		answer, ok := table[x.Target]
		if !ok {
			mcptest.Minimal(x)
			return
		}
		var status int
		var location string
		_, _ = fmt.Sscan(answer, &status, &location)
		if location == "" {
			x.Say(status, "text/plain", "no")
			return
		}
		x.Say(status, "text/html", "<a>moved</a>", "Location: "+location)
	}
}

func targets(s *mcptest.Server) (all []string) {
	for _, r := range s.Requests() {
		all = append(all, r.Target)
	}
	return all
}

func TestRedirectsWithinTheOrigin(t *testing.T) {
	s := mcptest.NewServer(t, nil)
	s.Script(routes(map[string]string{
		"/mcp": "308 /a?x=1", "/a?x=1": "308 b/", "/b/": "307 http://" + s.Addr() + "/c#frag",
	}))
	u := newUpstream(t, s.URL())
	c := requestOf("tools/call")
	c.Header.Set("Authorization", "Bearer t")
	closeResult(t, mustCall(t, u, c))
	if got, want := targets(s), []string{"/mcp", "/a?x=1", "/b/", "/c"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for _, r := range s.Requests() {
		if r.Verb != http.MethodPost || string(r.Body) != string(c.Body) || r.Get("Authorization") != "Bearer t" ||
			r.Get("Content-Type") != "application/json" || r.Get("Accept-Encoding") != "identity" || r.Has("Referer") {
			t.Errorf("%s got %q", r.Target, r.Raw)
		}
	}
	if _, total := s.Connections(); total != 1 {
		t.Errorf("%d connections", total)
	}
	// Remembered as far as they are permanent, for all lanes, but not for calls with a target of their own.
	works(t, u)
	closeResult(t, mustCall(t, u, onLane(mcp.LaneEnd, "")))
	own := onLane(mcp.LaneFetch, "")
	own.Target = &url.URL{Scheme: "http", Host: s.Addr(), Path: "/own"}
	s.Once(saying(200, "application/json", "{}"))
	closeResult(t, mustCall(t, u, own))
	if got, want := targets(s)[4:], []string{"/b/", "/c", "/b/", "/c", "/own"}; !slices.Equal(got, want) {
		t.Errorf("then %q, want %q", got, want)
	}
}

// TestTemporaryRedirectIsOneCalls holds that a 307, and a redirect of a caller with a query, is nobody else's.
func TestTemporaryRedirectIsOneCalls(t *testing.T) {
	s := mcptest.NewServer(t, routes(map[string]string{"/mcp": "307 /a", "/mcp?x=1": "308 /b?x=1"}))
	u := newUpstream(t, s.URL())
	works(t, u)
	works(t, u)
	own := requestOf("tools/list")
	own.Query = "x=1"
	closeResult(t, mustCall(t, u, own))
	works(t, u)
	if got, want := targets(s), []string{"/mcp", "/a", "/mcp", "/a", "/mcp?x=1", "/b?x=1", "/mcp", "/a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestQuery holds that an agent's query goes behind the URL's own, and behind where that was moved.
func TestQuery(t *testing.T) {
	s := mcptest.NewServer(t, routes(map[string]string{"/mcp?key=k": "308 /c?z=1"}))
	u := newUpstream(t, s.URL()+"?key=k")
	own := requestOf("tools/list")
	own.Query = "toolsets=core&y"
	for range 2 {
		closeResult(t, mustCall(t, u, own))
		works(t, u)
	}
	want := []string{"/mcp?key=k&toolsets=core&y", "/mcp?key=k", "/c?z=1", "/c?z=1&toolsets=core&y", "/c?z=1"}
	if got := targets(s); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A target that is gone is forgotten: its answer passes, the next call goes to the endpoint.
func TestRememberedTargetIsForgotten(t *testing.T) {
	for _, status := range []int{404, 410} {
		s := mcptest.NewServer(t, routes(map[string]string{"/mcp": "308 /a"}))
		u := newUpstream(t, s.URL())
		works(t, u)
		s.Script(routes(map[string]string{"/a": fmt.Sprint(status)}))
		res := mustCall(t, u, request())
		if res.Status != status {
			t.Errorf("got %d", res.Status)
		}
		closeResult(t, res)
		works(t, u)
		if got, want := targets(s), []string{"/mcp", "/a", "/a", "/mcp"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	t.Run("refused", func(t *testing.T) {
		s := mcptest.NewServer(t, routes(map[string]string{"/mcp": "308 /a"}))
		u := newUpstream(t, s.URL())
		works(t, u)
		s.Down()
		if _, err := u.Call(t.Context(), request()); err == nil {
			t.Fatal("answered while down")
		}
		s.Script(mcptest.Minimal)
		s.Up()
		works(t, u)
		if got, want := targets(s), []string{"/mcp", "/a", "/mcp"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestRedirectsThatAreRefused(t *testing.T) {
	other := mcptest.NewServer(t, mcptest.Minimal)
	for name, location := range map[string]string{
		"another host":   "http://other.example/mcp",
		"another port":   other.URL(),
		"another scheme": "https://127.0.0.1/mcp",
		"no URL":         "http://[::1:bad",
		"itself":         "/mcp",
	} {
		for _, lane := range []mcp.Lane{mcp.LaneRequest, mcp.LaneStream, mcp.LaneNotification} {
			t.Run(fmt.Sprintf("%s, lane %d", name, lane), func(t *testing.T) {
				s := mcptest.NewServer(t, saying(307, "", "", "Location: "+location))
				_, err := newUpstream(t, s.URL()).Call(t.Context(), onLane(lane, bodyOf(lane)))
				f := wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonRedirect, mcp.SentYes)
				if f.Cause == nil || strings.Contains(f.Message, "http") {
					t.Errorf("message %q, cause %v", f.Message, f.Cause)
				}
				want := 1
				if name == "itself" {
					want = 4
				}
				if n := s.Received(); n != want {
					t.Errorf("%d requests, want %d", n, want)
				}
			})
		}
	}
	if other.Received() != 0 {
		t.Error("another origin received it")
	}
}

// A redirect may come before the request was read, or with a body that does not end.
func TestRedirectWithAnEndlessBody(t *testing.T) {
	s := mcptest.NewServer(t, nil)
	s.Once(func(x *mcptest.Exchange) {
		x.Write(mcptest.Head(307, "text/plain", "Location: /a", "Content-Length: 100000") + strings.Repeat("x", 10_000))
		x.Hang()
	})
	s.Script(mcptest.Minimal)
	u := newUpstream(t, s.URL())
	works(t, u)
	s.AwaitOpen(1)
}

// The target lies at the server, or it is refused before anything is sent.
func TestTargetOutsideTheServer(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	u := newUpstream(t, s.URL())
	for _, target := range []string{"http://other.example/x", "https://" + s.Addr() + "/x", "http://user@" + s.Addr() + "/x"} {
		c := request()
		c.Target, _ = url.Parse(target)
		_, err := u.Call(context.Background(), c)
		wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonRedirect, mcp.SentNo)
	}
	c := request()
	c.Target, _ = url.Parse("HTTP://" + s.Addr() + "/messages?sessionId=1")
	closeResult(t, mustCall(t, u, c))
	if got := targets(s); !slices.Equal(got, []string{"/messages?sessionId=1"}) {
		t.Errorf("got %q", got)
	}
}

// A stream that is redirected is a stream.
func TestRedirectedStream(t *testing.T) {
	s := mcptest.NewServer(t, routes(map[string]string{"/mcp": "308 /a"}))
	u := newUpstream(t, s.URL())
	s.Once(routes(map[string]string{"/mcp": "308 /a"}), streaming(event(progress), event(good)))
	res := mustCall(t, u, request())
	if all, answers, err := eventsOf(res.Events); len(all) != 2 || answers != 1 || err != io.EOF {
		t.Errorf("%q, %d, %v", all, answers, err)
	}
	closeResult(t, res)
}

// A redirect's target that cannot be connected to: the server has answered, but not this.
func TestConnectFailsAfterARedirect(t *testing.T) {
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Say(307, "", "", "Location: /a", "Connection: close")
		x.Close()
	})
	var dials atomic.Int32
	u := newUpstream(t, s.URL(), dialing(func(ctx context.Context, dial dialer, network, addr string) (net.Conn, error) {
		if dials.Add(1) > 1 {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return dial(ctx, network, addr)
	}))
	_, err := u.Call(t.Context(), request())
	wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonConnect, mcp.SentYes)
	if s.Received() != 1 || dials.Load() != 2 {
		t.Errorf("received %d, %d dials", s.Received(), dials.Load())
	}
}
