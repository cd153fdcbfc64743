package harness

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// WithTTL puts a proxy before a server that has it say another ttlMs where it says 0, and nothing else. The Go SDK's
// conformance server says 0, at which a cache has nothing to do.
func WithTTL(to Server, ttlMs int) Server {
	return func(t testing.TB) string {
		t.Helper()
		p := &ttlProxy{target: to(t), ttl: fmt.Appendf(nil, `"ttlMs":%d$1`, ttlMs), transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}}
		srv := httptest.NewServer(p)
		t.Cleanup(func() {
			srv.CloseClientConnections()
			srv.Close()
			p.transport.CloseIdleConnections()
		})
		return srv.URL
	}
}

// ttlProxy relays requests to a server and edits the answers on the way, streams line by line.
type ttlProxy struct {
	target    string
	ttl       []byte // what takes the place of noTTL
	transport *http.Transport
}

// noTTL is the hint as the Go SDK writes it. Within a string it would have backslashes.
var noTTL = regexp.MustCompile(`"ttlMs":0([,}])`)

// ServeHTTP implements http.Handler.
func (p *ttlProxy) ServeHTTP(w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		return // the client left
	}
	out, err := http.NewRequestWithContext(in.Context(), in.Method, p.target, bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	out.Host, out.Header = in.Host, in.Header.Clone() // the server looks at the Host (DNS rebinding)
	out.Header.Del("Connection")
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	for name, values := range answer.Header {
		if name != "Connection" && name != "Content-Length" && name != "Transfer-Encoding" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(answer.StatusCode)
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		p.stream(w, answer.Body)
		return
	}
	whole, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the server broke off, so the client sees that too
	}
	_, _ = w.Write(p.edit(whole)) // a client that has left needs no answer
}

// stream passes on an SSE stream, each line as soon as it is there.
func (p *ttlProxy) stream(w http.ResponseWriter, from io.Reader) {
	flusher := http.NewResponseController(w)
	_ = flusher.Flush()
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if _, left := w.Write(p.edit(line)); left != nil {
			return
		}
		_ = flusher.Flush()
		switch {
		case err == io.EOF:
			return
		case err != nil:
			panic(http.ErrAbortHandler)
		}
	}
}

func (p *ttlProxy) edit(text []byte) []byte { return noTTL.ReplaceAll(text, p.ttl) }
