// A hop that lets the suites' parallel requests reach the daemon one after another.

package relay

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// serialized puts a hop before an endpoint that lets requests of one method through one after another: the next one when the
// answer to the one before has ended, and from the second one of a session on when its GET stream has been accepted: that is
// where the daemon is told of changes, without which it does not keep what a legacy server says. All else passes as it comes,
// with the Host that the client wrote. It returns the endpoint of the hop.
func serialized(t testing.TB, endpoint, method string) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	base := &http.Transport{DisableCompression: true}
	hop := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
			r.Out.Host = r.In.Host
		},
		Transport:     &serialTransport{t: t, base: base, method: method, sessions: map[string]*hopSession{}},
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	})
	t.Cleanup(func() {
		hop.CloseClientConnections() // a client may have left a GET stream open
		hop.Close()
		base.CloseIdleConnections()
	})
	return hop.URL + target.Path
}

// serialTransport is an http.RoundTripper that has read the whole answer to a request of the method before it sends the next one.
type serialTransport struct {
	t      testing.TB
	base   http.RoundTripper
	method string
	turn   sync.Mutex

	mu       sync.Mutex // guards the following, and what is in it
	sessions map[string]*hopSession
}

// hopSession is a session that a serialTransport has seen.
type hopSession struct {
	asked    int           // requests of the method
	answered *mcptest.Gate // open when its GET has been answered, or its DELETE: nothing is to be waited for
}

// RoundTrip implements http.RoundTripper.
func (s *serialTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	asked, err := s.isMine(request)
	if err != nil {
		return nil, err
	}
	again, answered := s.note(request, asked)
	if !asked {
		response, err := s.base.RoundTrip(request)
		if request.Method != http.MethodPost {
			answered.Open()
		}
		return response, err
	}
	if again {
		s.await(request, answered)
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	response, err := s.base.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	own := *response // the one from base keeps the body that is closed here
	own.Body = io.NopCloser(bytes.NewReader(body))
	return &own, nil
}

// note counts a request of the method, and returns whether its session has asked before, and the session's gate.
func (s *serialTransport) note(request *http.Request, asked bool) (again bool, answered *mcptest.Gate) {
	id := request.Header.Get("Mcp-Session-Id")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[id] == nil {
		s.sessions[id] = &hopSession{answered: mcptest.NewGate()}
	}
	own := s.sessions[id]
	if asked {
		own.asked++
	}
	return id != "" && own.asked > 1, own.answered
}

// await waits for the GET stream of a session, without which the request goes on in the end all the same.
func (s *serialTransport) await(request *http.Request, answered *mcptest.Gate) {
	late := time.NewTimer(harness.MaxWait)
	defer late.Stop()
	select {
	case <-answered.Opened():
	case <-request.Context().Done():
	case <-late.C:
		s.t.Errorf("a session asked for %s again and opened no GET stream", s.method)
	}
}

// isMine reads the body of a POST, which it puts back.
func (s *serialTransport) isMine(request *http.Request) (bool, error) {
	if request.Method != http.MethodPost || request.Body == nil {
		return false, nil
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return false, err
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	return harness.HeadOf(body).Method == s.method, nil
}
