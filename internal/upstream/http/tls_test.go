package http_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fluentd-perf/internal/mcp"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// secure starts a TLS server, with HTTP/2 or without. It notes each request's protocol and the client's port.
func secure(t *testing.T, h2 bool, h http.HandlerFunc) (s *httptest.Server, seen func() []string) {
	var mu sync.Mutex
	var all []string
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		all = append(all, r.Proto+" "+r.RemoteAddr)
		mu.Unlock()
		h(w, r)
	}))
	s.EnableHTTP2 = h2
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), all...)
	}
}

// trusting has the transports trust the server, and count its connections.
func trusting(s *httptest.Server, dials *atomic.Int32) func(*upstreamhttp.Options) {
	return func(o *upstreamhttp.Options) {
		dialing(func(ctx context.Context, dial dialer, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, network, addr)
		})(o)
		if s != nil {
			pool := x509.NewCertPool()
			pool.AddCert(s.Certificate())
			o.SetTLS(&tls.Config{RootCAs: pool})
		}
	}
}

func answerTLS(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, event(progress))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, good)
}

func TestOverTLS(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("offers HTTP/2 %v", h2), func(t *testing.T) {
			s, seen := secure(t, h2, answerTLS)
			var dials atomic.Int32
			var value func(string, ...string) float64
			u := newUpstream(t, s.URL+"/mcp", trusting(s, &dials), func(o *upstreamhttp.Options) { value = metered(o) })
			works(t, u)
			works(t, u)
			stream := mustCall(t, u, onLane(mcp.LaneStream, ""))
			if ev, err := stream.Events.Next(); err != nil || string(ev.Raw) != event(progress) {
				t.Errorf("%q, %v", ev.Raw, err)
			}
			works(t, u)
			all := seen()
			// Whatever the server offers: over HTTP/2 a call could be sent twice.
			if !strings.HasPrefix(all[0], "HTTP/1.1") {
				t.Errorf("got %s, want HTTP/1.1", all[0])
			}
			// The GET takes the warm connection.
			if all[0] != all[1] || all[0] != all[2] || all[0] == all[3] || dials.Load() != 2 {
				t.Errorf("%d connections: %q", dials.Load(), all)
			}
			if a, o := value("active_connections"), value("open_connections"); a != 1 || o != 2 {
				t.Errorf("%v active, %v open", a, o)
			}
			closeResult(t, stream)
			works(t, u)
		})
	}
}

// With a certificate that does not verify nothing is sent.
func TestUntrustedCertificate(t *testing.T) {
	s, seen := secure(t, true, answerTLS)
	var dials atomic.Int32
	u := newUpstream(t, s.URL+"/mcp", trusting(nil, &dials))
	_, err := u.Call(t.Context(), request())
	wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonConnect, mcp.SentNo)
	if dials.Load() != 1 || len(seen()) != 0 {
		t.Errorf("%d dials, %q", dials.Load(), seen())
	}
}

// A handshake that fails otherwise is the same to the caller: no connection was had.
func TestBrokenHandshake(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			_ = c.Close()
		}
	}()
	u := newUpstream(t, "https://"+ln.Addr().String()+"/mcp")
	_, err = u.Call(t.Context(), request())
	wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonConnect, mcp.SentNo)
	_ = ln.Close()
	<-done
	if n := accepted.Load(); n != 1 {
		t.Errorf("%d tries, want 1", n)
	}
}
