package harness

import (
	"net/http"
	"testing"
	"time"
)

// Within polls until done and returns how long it took. It fails the test at a limit that is far above what is promised,
// so that a slow machine is none of its business.
func Within(t *testing.T, promise time.Duration, what string, done func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	if !Poll(promise+slack, done) {
		t.Fatalf("not within %v: %s", promise+slack, what)
	}
	return time.Since(begun)
}

// slack is how much longer than promised a busy machine may take.
const slack = 15 * time.Second

// HTTPClient is an HTTP client that keeps no connections, so that no goroutine outlives its request.
var HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: MaxWait}

// MaxWait bounds every wait of a test for something that takes milliseconds on an idle machine.
const MaxWait = 30 * time.Second

// Eventually waits until done, asking every few milliseconds: another process tells nobody when it gets there.
func (d *Daemon) Eventually(what string, done func() bool) {
	d.T.Helper()
	Eventually(d.T, what, done)
}

// Eventually is Daemon.Eventually without a daemon. Both fail the test after MaxWait.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	if !Poll(MaxWait, done) {
		t.Fatalf("waited %v: not %s", MaxWait, what)
	}
}

// Poll asks until done, for so long at most, and reports whether it came to be. Between two questions are a few milliseconds, and a
// twentieth of the time that has passed: many a question goes to another process or reads all of /proc.
func Poll(limit time.Duration, done func() bool) bool {
	begun := time.Now()
	for !done() {
		since := time.Since(begun)
		if since >= limit {
			return false
		}
		<-time.After(min(5*time.Millisecond+since/20, limit-since))
	}
	return true
}
