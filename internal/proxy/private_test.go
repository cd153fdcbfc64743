package proxy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

const (
	owner    = 1000
	friend   = 1001
	stranger = 65534
	unknown  = 1 << 31 // whom nobody can tell
)

// privateHandler has one upstream, s, which is for owner and friend. calls counts what reaches it, asked for whose user it was asked.
type privateHandler struct {
	*Handler
	calls, asked int
	user         uint32
	log          bytes.Buffer
}

func newPrivate(t *testing.T, change func(*Options)) *privateHandler {
	t.Helper()
	p := new(privateHandler)
	call := mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		p.calls++
		return &mcp.Result{Status: http.StatusOK, Header: header.Of(http.Header{"Content-Type": jsonType}), Body: []byte("{}")}, nil
	})
	server := &url.URL{Scheme: "http", Host: "server.test", Path: "/mcp"}
	o := Options{
		// Every kind of path there is: no server has all of them.
		Upstreams: []Route{{Name: "s", URL: server, Caller: call, Array: call, OldTransport: true, RewriteOAuth: true, PrivateTo: []uint32{owner, friend}}},
		BodyLimit: 1 << 10, Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.NewTextHandler(&p.log, nil)),
		Peer: func(*http.Request) (uint32, error) {
			p.asked++
			if p.user == unknown {
				return 0, errors.New("no such socket")
			}
			return p.user, nil
		},
	}
	if change != nil {
		change(&o)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.Handler = h
	return p
}

// send sends one request as a user.
func (p *privateHandler) send(user uint32, verb, path string, fields ...string) *httptest.ResponseRecorder {
	p.user = user
	r := httptest.NewRequest(verb, "http://localhost"+path, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// upstreamPaths returns all paths of the upstream s, as the router has them, so that a new one is here by itself.
func upstreamPaths(t *testing.T, h *Handler) []string {
	t.Helper()
	paths := make(map[string]bool)
	err := chi.Walk(h.routes.(chi.Routes), func(_, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if route != "/healthz" && route != "/readyz" && route != "/metrics" {
			paths[strings.NewReplacer("{name}", "s", "{id}", "x").Replace(route)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"/mcp/s", "/mcp/s/"} // which pass the router by
	for path := range paths {
		all = append(all, path)
	}
	return all
}

// TestPrivateOnAllPaths holds that no path of a private upstream's leads a stranger to it, or one whom nobody can tell.
func TestPrivateOnAllPaths(t *testing.T) {
	p := newPrivate(t, nil)
	paths := upstreamPaths(t, p.Handler)
	if len(paths) < 12 {
		t.Fatalf("only %q", paths)
	}
	for _, path := range paths {
		for _, verb := range []string{"GET", "HEAD", "POST", "DELETE", "PUT"} {
			for user, key := range map[uint32]string{stranger: "`allow_users`", unknown: "`auth.token`"} {
				w := p.send(user, verb, path)
				if w.Code != http.StatusForbidden || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || !strings.Contains(w.Body.String(), key) {
					t.Errorf("user %d, %s %s: %d %q", user, verb, path, w.Code, w.Body)
				}
			}
		}
		if p.calls > 0 {
			t.Fatalf("%s reached the server", path)
		}
		for _, user := range []uint32{owner, friend, 0} {
			if p.send(user, "POST", path).Code == http.StatusForbidden {
				t.Errorf("user %d is refused at %s", user, path)
			}
		}
		p.calls = 0
	}
}

// TestPrivateAndToken: the token lets in whom nobody can tell, and no stranger; who may enter needs it where there is one.
func TestPrivateAndToken(t *testing.T) {
	for _, c := range []struct {
		configured string
		user       uint32
		shown      string
		status     int
	}{
		{"", unknown, "", 403}, {"", unknown, "secret", 403}, {"", owner, "", 200},
		{"secret", unknown, "", 403}, {"secret", unknown, "wrong", 403}, {"secret", unknown, "secret", 200},
		{"secret", stranger, "secret", 403}, {"secret", owner, "", 403}, {"secret", owner, "secret", 200}, {"secret", 0, "secret", 200},
	} {
		p := newPrivate(t, func(o *Options) { o.Token = c.configured })
		w := p.send(c.user, "POST", "/mcp/s", TokenHeader, c.shown)
		if w.Code != c.status || p.calls > 0 != (c.status == 200) {
			t.Errorf("%+v: %d %q, %d calls", c, w.Code, w.Body, p.calls)
		}
		// Its metadata is as private as the rest, though clients send no token with it.
		if w := p.send(c.user, "GET", metadataPath+"/s", TokenHeader, c.shown); c.status == 403 && c.user != owner && w.Code != 403 {
			t.Errorf("%+v: its metadata %d", c, w.Code)
		}
	}
}

// TestPrivateWithoutPeer: where connections are not known nobody can be told.
func TestPrivateWithoutPeer(t *testing.T) {
	p := newPrivate(t, func(o *Options) { o.Peer = nil })
	if w := p.send(owner, "POST", "/mcp/s"); w.Code != http.StatusForbidden || p.calls > 0 {
		t.Errorf("%d, %d calls", w.Code, p.calls)
	}
}

// TestPrivateToNobody: a list that is empty lets in root.
func TestPrivateToNobody(t *testing.T) {
	p := newPrivate(t, func(o *Options) { o.Upstreams[0].PrivateTo = []uint32{} })
	if p.send(owner, "POST", "/mcp/s").Code != http.StatusForbidden || p.send(0, "POST", "/mcp/s").Code != http.StatusOK {
		t.Error("it is for others than root")
	}
}

// TestPeerIsAskedForPrivateUpstreamsOnly holds that it costs the others nothing.
func TestPeerIsAskedForPrivateUpstreamsOnly(t *testing.T) {
	p := newPrivate(t, func(o *Options) { o.Upstreams[0].PrivateTo = nil })
	for _, path := range upstreamPaths(t, p.Handler) {
		p.send(stranger, "POST", path)
	}
	if p.asked > 0 || p.calls == 0 {
		t.Errorf("asked %d times for %d calls", p.asked, p.calls)
	}
}

// TestPrivateLog holds that strangers write one line a minute.
func TestPrivateLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPrivate(t, nil)
		for range 120 {
			p.send(stranger, "POST", "/mcp/s")
			time.Sleep(time.Second)
		}
		if got := strings.Count(p.log.String(), "why=user"); got != 2 || !strings.Contains(p.log.String(), "upstream=s") {
			t.Errorf("%d lines:\n%s", got, &p.log)
		}
	})
}
