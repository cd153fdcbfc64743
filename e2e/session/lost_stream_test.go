// GET streams of sessions that are lost.

package session

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// TestGETStreamOfLostSession: the agent's stream stays open over the server's restart, nobody asks anything, and what the
// agent subscribed to comes on it again. The first call after that is told.
func TestGETStreamOfLostSession(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	k.right(k.ask("resources/subscribe", `{"uri":"a://1"}`))
	l := k.GetStream(k.with()...)
	updated := func(when string) {
		t.Helper()
		if e := l.Next(); !strings.Contains(e.Data, "hello") {
			t.Fatalf("%s: got %+v, want the stream's first event", when, e)
		}
		f.update("a://1")
		if e := l.Next(); !strings.Contains(e.Data, `resources/updated`) || !strings.Contains(e.Data, "a://1") {
			t.Errorf("%s: got %+v, want the update", when, e)
		}
	}
	updated("before")
	f.restart()
	updated("after the restart")
	l.StillOpen()
	if n := f.saw("initialize"); n != 2 {
		t.Errorf("%d initialize, want 2", n)
	}
	f.mu.Lock()
	first, healed := f.lastEventIDs["s1"], f.lastEventIDs["s2"]
	f.mu.Unlock()
	if healed != "" {
		t.Errorf("the new session was asked from the event %q of before (first %q)", healed, first)
	}
	k.right(k.list())
	k.told(k.call("first"))
	k.right(k.call("second"))
	if n := f.runs("first"); n != 0 {
		t.Errorf("the refused call ran %d times", n)
	}
	f.restart() // and once more, from the healed one
	updated("after the second restart")
}

// isTagged reports whether an event's id is the server's, with the tag that ids have in a session that was recovered.
func isTagged(id, server string) bool {
	tag, ok := strings.CutSuffix(id, server)
	return ok && eventTag.MatchString(tag)
}

var eventTag = regexp.MustCompile(`^[A-Z2-7]{8}-[1-9]-$`)

// TestFreshGETMeetsTheLoss: an agent that opens a stream on the lost session gets one, with and without an event id that
// means nothing any more.
func TestFreshGETMeetsTheLoss(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{"first": nil, "again": {"Last-Event-ID: hello"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			k := beginSession(t, d)
			f.forget()
			l := k.GetStream(k.with(more...)...)
			e := l.Next()
			if !isTagged(e.ID, "hello") {
				t.Errorf("got %+v, want the new stream's first event", e)
			}
			tagged := e.ID
			f.mu.Lock()
			id := f.lastEventIDs["s2"]
			f.mu.Unlock()
			if id != "" {
				t.Errorf("the new session was asked from the event %q", id)
			}
			k.GetStream(k.with("Last-Event-ID: " + tagged)...).Next()
			f.mu.Lock()
			id = f.lastEventIDs["s2"]
			f.mu.Unlock()
			if id != "hello" {
				t.Errorf("a stream of the new session was resumed from the event %q", id)
			}
			k.told(k.call("first"))
			k.right(k.call("second"))
		})
	}
}

// TestGETStreamThatDoesNotHeal closes cleanly: an error on it would end the whole session of some clients.
func TestGETStreamThatDoesNotHeal(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*identity){
		"another server": func(p *identity) { p.name = "somebody else" },
		"off":            func(*identity) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heal := "reads"
			if name == "off" {
				heal = "off"
			}
			f, d := runHealing(t, heal)
			k := beginSession(t, d)
			l := k.GetStream(k.with()...)
			l.Next()
			f.become(change)
			f.restart()
			l.CleanEnd(harness.MaxWait)
			if r := k.list(); r.Status != http.StatusNotFound {
				t.Errorf("got %d %s", r.Status, r.Body)
			}
		})
	}
}

// TestHealsPastTheBreaker: the server is away for so long that the breaker stays open for seconds. When it is back,
// without its sessions, the stream that is opened again finds out first, and the session heals on it.
func TestHealsPastTheBreaker(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	l := k.GetStream(k.with()...)
	l.Next()
	f.die()
	// An initialize is let through a second after the last failure; the next probe of 4 s after the last comes later.
	d.Eventually("the breaker is open for seconds, and was for one", func() bool {
		a := k.list().RPC(t)
		return a.Error != nil && a.Error.Data != nil && a.Error.Data.Reason == "breaker_open" &&
			a.Error.Data.RetryAfterMs > 2500 && a.Error.Data.RetryAfterMs < 2900
	})
	f.Up()
	if e := l.Next(); !isTagged(e.ID, "hello") {
		t.Errorf("got %+v, want the new stream's first event", e)
	}
	k.right(k.list())
	k.told(k.call("first"))
	k.right(k.call("second"))
	if n := heals(d, "healed"); n != 1 || d.Scrape().Sum("fluentd_perf_session_heals_total") != 1 {
		t.Errorf("%d healings and some that failed: %s", n, d.Out)
	}
}
