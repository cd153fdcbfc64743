package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// TestGETStreamOfLostSession: the agent's stream stays open over the server's restart, nobody asks anything, and what the
// agent subscribed to comes on it again. The first call after that is told.
func TestGETStreamOfLostSession(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := d.begin(t)
	k.right(k.ask("resources/subscribe", `{"uri":"a://1"}`))
	l := k.get(k.with()...)
	updated := func(when string) {
		t.Helper()
		if e := l.next(); !strings.Contains(e.data, "hello") {
			t.Fatalf("%s: got %+v, want the stream's first event", when, e)
		}
		f.update("a://1")
		if e := l.next(); !strings.Contains(e.data, `resources/updated`) || !strings.Contains(e.data, "a://1") {
			t.Errorf("%s: got %+v, want the update", when, e)
		}
	}
	updated("before")
	f.restart()
	updated("after the restart")
	l.stillOpen()
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
			k := d.begin(t)
			f.forget()
			l := k.get(k.with(more...)...)
			e := l.next()
			if !isTagged(e.id, "hello") {
				t.Errorf("got %+v, want the new stream's first event", e)
			}
			tagged := e.id
			f.mu.Lock()
			id := f.lastEventIDs["s2"]
			f.mu.Unlock()
			if id != "" {
				t.Errorf("the new session was asked from the event %q", id)
			}
			k.get(k.with("Last-Event-ID: " + tagged)...).next()
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
	for name, change := range map[string]func(*persona){
		"another server": func(p *persona) { p.name = "somebody else" },
		"off":            func(*persona) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heal := "reads"
			if name == "off" {
				heal = "off"
			}
			f, d := runHealing(t, heal)
			k := d.begin(t)
			l := k.get(k.with()...)
			l.next()
			f.become(change)
			f.restart()
			l.cleanEnd(patience)
			if r := k.list(); r.status != http.StatusNotFound {
				t.Errorf("got %d %s", r.status, r.body)
			}
		})
	}
}

// TestHealsPastTheBreaker: the server is away for so long that the breaker stays open for seconds. When it is back,
// without its sessions, the stream that is opened again finds out first, and the session heals on it.
func TestHealsPastTheBreaker(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := d.begin(t)
	l := k.get(k.with()...)
	l.next()
	f.die()
	// An initialize is let through a second after the last failure; the next probe of 4 s after the last comes later.
	d.eventually("the breaker is open for seconds, and was for one", func() bool {
		a := k.list().rpc(t)
		return a.Error != nil && a.Error.Data != nil && a.Error.Data.Reason == "breaker_open" &&
			a.Error.Data.RetryAfterMs > 2500 && a.Error.Data.RetryAfterMs < 2900
	})
	f.Up()
	if e := l.next(); !isTagged(e.id, "hello") {
		t.Errorf("got %+v, want the new stream's first event", e)
	}
	k.right(k.list())
	k.told(k.call("first"))
	k.right(k.call("second"))
	if n := d.heals("healed"); n != 1 || d.scrape().sum("fluentd_perf_session_heals_total") != 1 {
		t.Errorf("%d healings and some that failed: %s", n, d.out)
	}
}
