package http_test

import (
	"bytes"
	"context"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// Which client a server gets: Go's where it is asked for, and for hosts of which the other does not know what to make.
func TestWhichClient(t *testing.T) {
	for endpoint, direct := range map[string]bool{
		"http://server.example/mcp": true, "https://127.0.0.1:8443/mcp": true, "http://[::1]:80/": true, "http://a_b.example:8080": true,
		"http://bücher.example/mcp": false, "http://[fe80::1%25eth0]:80/mcp": false, "http://server.example:/mcp": false,
	} {
		for _, compat := range []bool{false, true} {
			u := newUpstream(t, endpoint, func(o *upstreamhttp.Options) { o.Compat = compat })
			if want := direct && !compat && runtime.GOOS == "linux"; u.Direct() != want {
				t.Errorf("%s, compat %v: direct %v, want %v", endpoint, compat, u.Direct(), want)
			}
		}
	}
}

// A server that speaks HTTP/2 only is named as such, over TLS and without.
func TestHTTP2Only(t *testing.T) {
	if compat {
		return // net/http does not say it
	}
	plain := mcptest.NewServer(t, rawly("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"))
	_, err := newUpstream(t, plain.URL()).Call(t.Context(), request())
	if f := wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonBadAnswer, mcp.SentYes); f.Message != "the server speaks HTTP/2 only" {
		t.Errorf("got %q", f.Message)
	}
	u := newUpstream(t, "http://server.test/mcp", dialsBy(func(context.Context) (net.Conn, error) { return nil, http1.ErrHTTP2 })) // as TLS finds out
	_, err = u.Call(t.Context(), request())
	f := wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonConnect, mcp.SentNo)
	if f.Message != "could not reach the server: it speaks HTTP/2 only" {
		t.Errorf("got %q (%v)", f.Message, f.Cause)
	}
}

// A connection that is being opened is not open yet.
func TestOpeningIsNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var value func(string, ...string) float64
		u, shut := piped(t, nil, func(o *upstreamhttp.Options) { value = metered(o) }, dialsBy(func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = u.Call(ctx, request()) })
		synctest.Wait()
		if open, active := value("open_connections"), value("active_connections"); open != 0 || active != 0 {
			t.Errorf("%v open, %v active", open, active)
		}
		cancel()
		wg.Wait()
		shut()
	})
}

// The fields of a request are in the order of their names, whatever that of the map is.
func TestOrderOfFields(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	u := newUpstream(t, s.URL())
	for range 5 {
		closeResult(t, mustCall(t, u, request()))
	}
	all := s.Requests()
	for _, r := range all[1:] {
		if !bytes.Equal(r.Raw, all[0].Raw) {
			t.Errorf("got %q, then %q", all[0].Raw, r.Raw)
		}
	}
}
