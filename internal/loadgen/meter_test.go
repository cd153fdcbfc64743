package loadgen_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"
)

// TestMeter takes what a daemon's /metrics say of allocations, less what being asked costs.
func TestMeter(t *testing.T) {
	var objects, broken atomic.Int64
	objects.Store(1000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" || broken.Load() > 0 {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		n := objects.Add(300) // to answer costs that
		fmt.Fprintf(w, "# HELP x y\ngo_memstats_mallocs_total %d\ngo_memstats_alloc_bytes_total %e\n", n, float64(10*n))
	}))
	defer s.Close()
	target, err := loadgen.NewTarget(s.URL+"/mcp/x", "")
	if err != nil {
		t.Fatal(err)
	}
	// A limit is for calls: a reading that waited for its turn would not come back within the test.
	target.Limit = loadgen.NewLimiter(1e-6)
	if err := target.Limit.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m := loadgen.NewMeter(ctx, 0, target)
	m.Begin(t.Context())
	objects.Add(5000)
	u := m.End(t.Context(), 100)
	if u == nil || u.Allocs != 50 || u.AllocBytes != 500 {
		t.Errorf("%+v, want 50 objects and 500 bytes a call", u)
	}
	broken.Store(1)
	target.Limit = nil
	if a, err := loadgen.ReadAllocations(t.Context(), target); err == nil {
		t.Errorf("%+v of a daemon that shows none", a)
	}
	if u := loadgen.NewMeter(t.Context(), 0, target).End(t.Context(), 1); u != nil {
		t.Errorf("%+v of nothing", u)
	}
}

// TestNewTarget takes URLs apart.
func TestNewTarget(t *testing.T) {
	for url, want := range map[string]string{
		"http://127.0.0.1:7300/mcp/docs": "tcp 127.0.0.1:7300 127.0.0.1:7300 /mcp/docs",
		"http://example.com":             "tcp example.com:80 example.com /",
		"https://example.com/mcp?a=b":    "tls example.com:443 example.com /mcp?a=b",
		"http://[::1]:7300/mcp":          "tcp [::1]:7300 [::1]:7300 /mcp",
		"ftp://example.com/":             "", "http:///mcp": "", "127.0.0.1:7300": "", "http://user:secret@example.com/": "", "http://a b/": "",
	} {
		target, err := loadgen.NewTarget(url, "")
		switch {
		case err != nil && want != "":
			t.Errorf("%s: %v", url, err)
		case err == nil:
			if got := fmt.Sprint(target.Transport(), " ", target.Address, " ", target.Host, " ", target.Path); got != want {
				t.Errorf("%s: %s, want %s", url, got, want)
			}
		}
	}
	for _, header := range []string{"no colon", ": x", "A: b\r\nC: d"} {
		if _, err := loadgen.NewTarget("http://127.0.0.1/", "", header); err == nil {
			t.Errorf("the header %q is taken", header)
		}
	}
}

// TestUnixSocket calls a server over a Unix socket.
func TestUnixSocket(t *testing.T) {
	socket := t.TempDir() + "/s"
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "go_memstats_mallocs_total 1\ngo_memstats_alloc_bytes_total 2\n")
	})}
	go func() { _ = s.Serve(ln) }() // ends with Close
	defer s.Close()
	target, err := loadgen.NewTarget("http://localhost/metrics", socket)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := loadgen.ReadAllocations(t.Context(), target); err != nil || a.Objects != 1 || target.Transport() != "unix" {
		t.Errorf("%+v, %v", a, err)
	}
}
