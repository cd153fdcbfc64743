package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// received is one kind of request: a method, and who sent it.
type received struct{ method, who string }

// counting lets in who has a valid token and counts what comes, before the SDK sees it.
func (m *ModernServer) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client left
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !m.admits(r.Header) {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		var message struct{ Method string }
		_ = json.Unmarshal(body, &message) // what is not JSON is the SDK's to refuse
		if status := m.count(received{message.Method, m.principal(r.Header)}); status != 0 {
			http.Error(w, "not now", status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// principal says who sends a request: the owner of its token, the token itself where any is good, or nobody.
func (m *ModernServer) principal(h http.Header) string {
	token := strings.TrimPrefix(h.Get("Authorization"), "Bearer ")
	m.mu.Lock()
	defer m.mu.Unlock()
	if owner, known := m.options.Tokens[token]; known {
		return owner
	}
	if token == "" {
		return "nobody"
	}
	return token
}

func (m *ModernServer) admits(h http.Header) bool {
	token, bearer := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.options.Tokens == nil {
		return true
	}
	_, known := m.options.Tokens[token]
	if !bearer || !known {
		m.refused++
		return false
	}
	return true
}

// count writes down a request and returns the status that it is to be refused with, or 0.
func (m *ModernServer) count(r received) (status int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received[r]++
	m.wakeLocked()
	return m.status
}

func (m *ModernServer) wakeLocked() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Calls says how many requests of a method were received, of all or of one who asks; those with no valid token are not
// among them.
func (m *ModernServer) Calls(method string, who ...string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.callsLocked(method, who)
}

func (m *ModernServer) callsLocked(method string, who []string) (n int) {
	for r, times := range m.received {
		if r.method == method && (len(who) == 0 || r.who == who[0]) {
			n += times
		}
	}
	return n
}

// refusals says how many requests had no valid token.
func (m *ModernServer) refusals() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused
}

// listening follows a subscriptions/listen to its end. It counts from the acknowledgement on: what changes before that,
// the server need not tell.
func (m *ModernServer) listening(ctx context.Context, next mcp.MethodHandler, r mcp.Request) (mcp.Result, error) {
	session := r.GetSession()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.listeners, session)
		m.wakeLocked()
	}()
	return next(context.WithValue(ctx, listenerKey{}, m.principal(r.GetExtra().Header)), "subscriptions/listen", r)
}

// listenerKey is the key of who listens, in the context in which the SDK acknowledges it.
type listenerKey struct{}

// noting sees what the server sends, the acknowledgements of listens among it.
func (m *ModernServer) noting(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
		result, err := next(ctx, method, r)
		who, listens := ctx.Value(listenerKey{}).(string)
		if err == nil && listens && method == "notifications/subscriptions/acknowledged" {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.listeners[r.GetSession()] = who
			m.wakeLocked()
		}
		return result, err
	}
}

// Listens says how many subscriptions/listen are open, of all or of one who asks.
func (m *ModernServer) Listens(who ...string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listensLocked(who)
}

func (m *ModernServer) listensLocked(who []string) (n int) {
	for _, one := range m.listeners {
		if len(who) == 0 || one == who[0] {
			n++
		}
	}
	return n
}

// awaitCalls waits until so many requests of a method have been received.
func (m *ModernServer) awaitCalls(t testing.TB, n int, method string, who ...string) {
	t.Helper()
	m.await(t, method, func() bool { return m.callsLocked(method, who) >= n })
}

// AwaitListens waits until exactly so many subscriptions/listen are open.
func (m *ModernServer) AwaitListens(t testing.TB, n int, who ...string) {
	t.Helper()
	m.await(t, "open listens", func() bool { return m.listensLocked(who) == n })
}

// await waits until done, which is called with the lock held, at every change.
func (m *ModernServer) await(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(MaxWait)
	for {
		m.mu.Lock()
		ready, changed, seen := done(), m.changed, fmt.Sprint("received ", m.received, ", listening ", slices.Collect(maps.Values(m.listeners)))
		m.mu.Unlock()
		if ready {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("not within %v: %s; %s", MaxWait, what, seen)
		}
	}
}
