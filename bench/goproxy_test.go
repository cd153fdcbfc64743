//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"sync"
	"time"
)

// goproxyRole is the yardstick: what a careful person makes of the standard library. As many idle connections as there ever
// are requests at once, buffers used again, and the body of a POST read before it is sent on, as a bytes.Reader, because
// streaming it loses requests (golang/go #40747).
func goproxyRole(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("goproxy ORIGIN")
	}
	target, err := url.Parse(args[0])
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:  &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: maxAtOnce, DisableCompression: true, IdleConnTimeout: 90 * time.Second},
		BufferPool: &copyBuffers{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /memory", serveMemory)
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	})
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }() // ends with the process
	if err := say(map[string]string{"Address": ln.Addr().String()}); err != nil {
		return err
	}
	waitForEnd()
	return server.Close()
}

// serveMemory writes the allocations so far in the form of the daemon's /metrics.
func serveMemory(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_, _ = fmt.Fprintf(w, "go_memstats_mallocs_total %d\ngo_memstats_alloc_bytes_total %d\n", m.Mallocs, m.TotalAlloc)
}

// copyBuffers is httputil's BufferPool over a sync.Pool.
type copyBuffers struct{ pool sync.Pool }

func (c *copyBuffers) Get() []byte {
	if b, ok := c.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (c *copyBuffers) Put(b []byte) { c.pool.Put(&b) }
