//go:build !race

package http1_test

import (
	"io"
	"net/http"
	"testing"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/http1/header"
)

// maxServerAllocs is what a request may allocate: the Inbound, and the text of its head. maxAdaptedAllocs is with all that net/http's
// handlers want: request, URL, header and its values, and a ResponseWriter with a header of its own.
const (
	maxServerAllocs  = 2
	maxAdaptedAllocs = 12
)

// ownAnswer is a handler that needs nothing of net/http's.
func ownAnswer(q *http1.Inbound) {
	n, _ := io.ReadFull(q, received[:q.Length]) // a length that is too large ends the test
	q.Begin(http.StatusOK, ownFields, int64(n))
	_, _ = q.Write(received[:n])
}

var received [512]byte // by one connection

var ownFields = header.List{{Name: "Content-Type", Value: "application/json"}}

func TestAllocationsPerRequest(t *testing.T) {
	for name, tt := range map[string]struct {
		own  func(*http1.Inbound)
		most float64
	}{"own": {ownAnswer, maxServerAllocs}, "adapted": {nil, maxAdaptedAllocs}} {
		call := caller(t, func(o *http1.ServerOptions) { o.Handler = tt.own })
		got := testing.AllocsPerRun(500, call)
		t.Logf("%s: %v allocations", name, got)
		if got > tt.most {
			t.Errorf("%s: %v allocations per request, at most %v", name, got, tt.most)
		}
	}
}

// caller returns a function that sends a request of 200 bytes to a server and reads the answer, and allocates nothing itself.
func caller(tb testing.TB, change func(*http1.ServerOptions)) func() {
	s := newServer(tb, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.ReadFull(r.Body, received[:r.ContentLength])
		w.Header()["Content-Type"] = jsonType
		_, _ = w.Write(received[:n])
	}, change)
	nc := dialServer(tb, s.addr)
	raw := []byte("POST /mcp HTTP/1.1\r\nHost: localhost\r\n")
	for _, f := range benchFields {
		raw = append(raw, f.Name+": "+f.Value+"\r\n"...)
	}
	raw = append(append(raw, "Content-Length: 200\r\n\r\n"...), benchBody...)
	buf := make([]byte, 4096)
	return func() {
		if _, err := nc.Write(raw); err != nil {
			tb.Fatal(err)
		}
		for n := 0; n < 200 || buf[n-1] != 'x'; {
			m, err := nc.Read(buf[n:])
			if err != nil {
				tb.Fatal(err)
			}
			n += m
		}
	}
}

var jsonType = []string{"application/json"}

func BenchmarkServer(b *testing.B) {
	for name, change := range map[string]func(*http1.ServerOptions){
		"own":     func(o *http1.ServerOptions) { o.Handler = ownAnswer },
		"adapted": func(*http1.ServerOptions) {},
		"compat":  func(o *http1.ServerOptions) { o.Compat = true },
	} {
		b.Run(name, func(b *testing.B) {
			call := caller(b, change)
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}
