package loadgen

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
)

var idInBody = regexp.MustCompile(`"id":(\d+)`)

// TestClosedWhileIdle: connections that the server closed between two rounds are opened again, and no call is counted as broken off; those
// that it kept are kept.
func TestClosedWhileIdle(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body) // what is cut has no id
			id := idInBody.FindSubmatch(body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":`+string(id[1])+`,"result":{}}`) // or the call fails
		}))
		target := serveIdle(t, s, secure)
		p := NewClients(target)
		defer p.Close(context.Background())
		if err := p.Open(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		for round, opened := range []int64{0, 0, 2} {
			if round == 2 {
				s.CloseClientConnections()
			}
			for _, c := range p.idle {
				c.last = c.last.Add(-lookAfter)
			}
			tally, err := p.Run(t.Context(), Load{Loop: Burst, Concurrency: 2, Requests: 2}, Only(List()), nil)
			if err != nil {
				t.Fatal(err)
			}
			if r := tally.Round(); r.Failed != 0 || r.Opened != opened {
				t.Errorf("TLS %v, round %d: %d failed, %s; %d connections were opened, want %d", secure, round, r.Failed, r.FirstFault, r.Opened, opened)
			}
		}
	}
	a, b := net.Pipe()
	_ = b.Close()
	defer func() { _ = a.Close() }()
	if isClosed(a, true) {
		t.Error("what is no socket is looked at")
	}
}

// serveIdle starts a server until the test's end, and returns it as a target.
func serveIdle(t *testing.T, s *httptest.Server, secure bool) *Target {
	t.Helper()
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	target, err := NewTarget(s.URL+"/mcp", "")
	if err != nil {
		t.Fatal(err)
	}
	if secure {
		target.TLS.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	}
	return target
}
