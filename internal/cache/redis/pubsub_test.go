package redis_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache/redis"
)

// TestLinkOfTwo has two daemons receive each other's bumps, and not their own.
func TestLinkOfTwo(t *testing.T) {
	s := newServer(t)
	ra, rb := newRecorder(), newRecorder()
	a, b := newTier(t, s.url(), ra.listen), newTier(t, s.url(), rb.listen)
	eventually(t, "both links stand", func() bool { return a.Linked() && b.Linked() })
	for range 50 {
		x, y := newThing(), newThing()
		start := time.Now()
		bump(t, a, x)
		bump(t, b, y)
		eventually(t, "both receive", func() bool { return ra.has(y.gen) && rb.has(x.gen) })
		if ra.has(x.gen) || rb.has(y.gen) {
			t.Error("a daemon's own bump came back to it")
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("received after %v", took)
		}
	}
	if ra.losses()+rb.losses() > 0 {
		t.Error("lost on a link that rt")
	}
}

// TestLinkCut ends the connection in three ways: the link is lost, stands again within 5 s of the server's return, and the
// listener learns that it may have missed something.
func TestLinkCut(t *testing.T) {
	for name, cut := range map[string]func(s *server, tier *redis.Tier){
		"killed": func(s *server, tier *redis.Tier) {
			s.kill()
			eventually(s.tb, "the link is lost", func() bool { return !tier.Linked() })
			s.start()
		},
		"hung": func(s *server, tier *redis.Tier) {
			s.hang()
			eventually(s.tb, "the link is cut", func() bool { return !tier.Linked() })
			s.resume()
		},
		"disconnected": func(s *server, _ *redis.Tier) { s.do("CLIENT", "KILL", "TYPE", "pubsub") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			r, log := newRecorder(), &lines{}
			tier := newTier(t, s.url(), r.listen, func(o *redis.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
			eventually(t, "the link stands", tier.Linked)
			cut(s, tier)
			start := time.Now()
			eventually(t, "the listener learns of it", func() bool { return r.losses() == 1 && tier.Linked() })
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("the link stands after %v", took)
			}
			x := newThing()
			eventually(t, "the tier works", func() bool { return works(tier) })
			other := newTier(t, s.url())
			eventually(t, "the other daemon's tier works", func() bool { return works(other) })
			bump(t, other, x)
			eventually(t, "a bump is received", func() bool { return r.has(x.gen) })
			if text := log.String(); strings.Count(text, "are not received") != 1 || strings.Count(text, "received again") != 1 {
				t.Errorf("the log says:\n%s", text)
			}
		})
	}
}

// TestLinkIdle: a link on which nothing is bumped stands for longer than a silent one would, by its pings.
func TestLinkIdle(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := newRecorder()
	tier := newTier(t, s.url(), r.listen)
	eventually(t, "the link stands", tier.Linked)
	pings := func() int { return called(s, "ping") }
	before := pings()
	eventually(t, "it was pinged for 5 s", func() bool { return pings() >= before+5 })
	if !tier.Linked() || r.losses() > 0 || s.do("PUBSUB", "NUMSUB", "fluentd-perf:2:test:bumps").([]any)[1] != int64(1) {
		t.Error("an idle link was cut")
	}
}

// TestLinkLate: what was read before the link stood for the first time may be stale, and the listener learns it.
func TestLinkLate(t *testing.T) {
	s := newServer(t)
	s.do("ACL", "SETUSER", "default", "resetchannels") // nothing can be subscribed to
	r := newRecorder()
	tier := newTier(t, s.url(), r.listen)
	store(t, tier, newThing(), "read without a link")
	if tier.Linked() {
		t.Error("linked to nothing")
	}
	s.do("ACL", "SETUSER", "default", "allchannels")
	eventually(t, "the link stands", tier.Linked)
	if r.losses() != 1 {
		t.Errorf("%d losses, want 1", r.losses())
	}
}

// TestLinkUnreadable: a message that says nothing known is taken for one that may say anything.
func TestLinkUnreadable(t *testing.T) {
	s := newServer(t)
	r := newRecorder()
	tier := newTier(t, s.url(), r.listen)
	eventually(t, "the link stands", tier.Linked)
	for i, payload := range []string{"", "short", strings.Repeat("x", 16*1025)} {
		s.do("PUBLISH", "fluentd-perf:2:test:bumps", payload)
		eventually(t, "the listener learns it", func() bool { return r.losses() == i+1 })
	}
	s.do("PUBLISH", "fluentd-perf:2:test:bumps", strings.Repeat("x", 100_000)) // over what a link takes: it is cut
	eventually(t, "the listener learns it", func() bool { return r.losses() == 4 && tier.Linked() })
}

// TestNoListener: where nobody listens, there is no link.
func TestNoListener(t *testing.T) {
	s := newServer(t)
	tier := newTier(t, s.url())
	store(t, tier, newThing(), "v")
	if tier.Linked() || s.do("PUBSUB", "NUMSUB", "fluentd-perf:2:test:bumps").([]any)[1] != int64(0) {
		t.Error("linked")
	}
}

// lines is a log that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
