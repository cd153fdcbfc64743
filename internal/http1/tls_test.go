package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fluentd-perf/internal/http1"
)

// secureServer starts an https server that counts its connections, and returns what makes a client trust it.
func secureServer(t *testing.T, handler http.HandlerFunc) (s *httptest.Server, trust func(*http1.Options), conns *atomic.Int64) {
	t.Helper()
	conns = new(atomic.Int64)
	s = httptest.NewUnstartedServer(handler)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s, func(o *http1.Options) { o.TLS = &tls.Config{RootCAs: pool} }, conns
}

// echo answers with the body, which it reads whole first: net/http's server may drop what is left of it when the answer begins.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(b)
}

// gathered holds back what is written until it is let go: then it is all in one segment.
type gathered struct {
	net.Conn
	held *bytes.Buffer // nil: nothing is held back
}

func (g *gathered) Write(p []byte) (int, error) {
	if g.held != nil {
		return g.held.Write(p)
	}
	return g.Conn.Write(p)
}

// TestUnaskedBytesOverTLS holds that bytes behind an answer are nobody's, where TLS has read them already: in a record of their own that came
// with the answer's, or in the last one of a body.
func TestUnaskedBytesOverTLS(t *testing.T) {
	s, trust, _ := secureServer(t, echo)
	const bad = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"
	long := strings.Repeat("x", 20_000)
	for name, test := range map[string]struct {
		records []string
		want    string
	}{
		"a record":    {[]string{okAnswer, bad}, "ok"},
		"in a record": {[]string{fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", len(long), long, bad)}, long},
		"nothing":     {[]string{okAnswer}, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			ln := listen(t)
			var conns atomic.Int32
			var all sync.WaitGroup
			all.Go(func() {
				for {
					raw, err := ln.Accept()
					if err != nil {
						return
					}
					conns.Add(1)
					all.Go(func() {
						g := &gathered{Conn: raw}
						c := tls.Server(g, s.TLS)
						defer func() { _ = raw.Close() }()
						for from := bufio.NewReader(c); ; {
							if r, err := http.ReadRequest(from); err != nil {
								return
							} else if _, err := io.Copy(io.Discard, r.Body); err != nil {
								return
							}
							g.held = new(bytes.Buffer)
							for _, record := range test.records {
								_, _ = c.Write([]byte(record))
							}
							all := g.held.Bytes()
							g.held = nil
							if _, err := raw.Write(all); err != nil {
								return
							}
						}
					})
				}
			})
			c := newClient(t, "https://"+ln.Addr().String(), trust, func(o *http1.Options) { o.TLS.ServerName = "example.com" })
			for range 3 {
				mustDo(t, c, post("{}"), test.want)
			}
			want := int32(3) // none is used again
			if len(test.records) == 1 && test.want == "ok" {
				want = 1
			}
			if conns.Load() != want {
				t.Errorf("%d connections, want %d", conns.Load(), want)
			}
			c.Close()
			_ = ln.Close()
			all.Wait()
		})
	}
}

// TestTLS calls over TLS: one connection for many calls, bodies small and large, and the certificate is checked.
func TestTLS(t *testing.T) {
	s, trust, conns := secureServer(t, echo)
	c := newClient(t, s.URL, trust)
	for i := range 20 {
		body := strings.Repeat(fmt.Sprint(i), 1<<i)
		mustDo(t, c, post(body), body)
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections", conns.Load())
	}
	_, _, err := do(context.Background(), newClient(t, s.URL), post("{}"))
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("got %v", err)
	}
	wantSent(t, err, http1.SentNo)
}

// TestTLSClosedIdleConnection holds that the end of an idle connection is seen below TLS, before a byte is written.
func TestTLSClosedIdleConnection(t *testing.T) {
	s, trust, conns := secureServer(t, echo)
	c := newClient(t, s.URL, trust)
	for range 20 {
		mustDo(t, c, post("ok"), "ok")
		s.CloseClientConnections()
	}
	if conns.Load() != 20 {
		t.Errorf("%d connections", conns.Load())
	}
}

// TestTLSCancel ends a call over TLS that waits for its answer.
func TestTLSCancel(t *testing.T) {
	seen := make(chan context.CancelFunc, 1)
	s, trust, _ := secureServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		(<-seen)()
		<-r.Context().Done()
	})
	c := newClient(t, s.URL, trust)
	ctx, cancel := context.WithCancel(context.Background())
	seen <- cancel
	_, _, err := do(ctx, c, post("{}"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantSent(t, err, http1.SentUnknown)
}

// TestNotTLS names a server that speaks HTTP where TLS was wanted, and one that speaks HTTP/2 only.
func TestNotTLS(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(echo))
	defer plain.Close()
	_, _, err := do(context.Background(), newClient(t, strings.Replace(plain.URL, "http:", "https:", 1)), post("{}"))
	if !errors.Is(err, http.ErrSchemeMismatch) {
		t.Errorf("got %v", err)
	}
	s, trust, _ := secureServer(t, echo)
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h3"}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if conn, err := ln.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	_, _, err = do(context.Background(), newClient(t, "https://"+ln.Addr().String(), trust), post("{}"))
	if !errors.Is(err, http1.ErrHTTP2) {
		t.Errorf("got %v", err)
	}
	_ = ln.Close()
	<-ended
}

// proxy is one that tunnels and relays, and wants to know who asks. It notes what it was asked for.
func proxy(t *testing.T, secure bool) (at *url.URL, trusted *x509.CertPool, asked *[]string) {
	t.Helper()
	asked = new([]string)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization"))
		if r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.Method == http.MethodConnect {
			relayTunnel(w, r.Host)
			return
		}
		echo(w, r)
	})
	s := httptest.NewUnstartedServer(handler)
	if secure {
		s.StartTLS()
		trusted = x509.NewCertPool()
		trusted.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return at, trusted, asked
}

func relayTunnel(w http.ResponseWriter, host string) {
	server, err := net.Dial("tcp", host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	client, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
	_ = client.Close()
}

// TestProxies calls through proxies, over HTTP and TLS both to them and to the server.
func TestProxies(t *testing.T) {
	server, trust, _ := secureServer(t, echo)
	for _, secure := range []bool{false, true} {
		for _, target := range []string{"http://server.example:81", server.URL} {
			at, trusted, asked := proxy(t, secure)
			through := func(o *http1.Options) {
				o.Proxy = at
				if trust(o); secure {
					o.TLS.RootCAs = trusted // httptest has one certificate for all its servers
				}
			}
			_, body, err := do(context.Background(), newClient(t, target, through), post("ok"))
			tunnelled := strings.HasPrefix(target, "https")
			if tunnelled == (err == nil) {
				t.Errorf("without a password: %q, %v", body, err)
			}
			if tunnelled {
				wantSent(t, err, http1.SentNo)
			}
			at.User = url.UserPassword("user", "word")
			c := newClient(t, target, through)
			mustDo(t, c, post("ok"), "ok")
			mustDo(t, c, post("ok2"), "ok2")
			want := "POST http://server.example:81/mcp"
			if tunnelled {
				want = "CONNECT " + strings.TrimPrefix(target, "https://")
			}
			if got := (*asked)[len(*asked)-1]; got != want+" Basic dXNlcjp3b3Jk" {
				t.Errorf("asked for %q", got)
			}
			if tunnelled && len(*asked) != 2 || !tunnelled && len(*asked) != 3 {
				t.Errorf("asked %d times", len(*asked))
			}
		}
	}
}

// TestUnknownSchemes holds that what is not supported is said when the client is made.
func TestUnknownSchemes(t *testing.T) {
	for _, o := range []http1.Options{
		{URL: &url.URL{Scheme: "ftp", Host: "a"}},
		{URL: &url.URL{Scheme: "http", Host: "a"}, Proxy: &url.URL{Scheme: "socks5", Host: "b"}},
	} {
		if _, err := http1.New(o); err == nil {
			t.Errorf("%v was taken", o)
		}
	}
}
