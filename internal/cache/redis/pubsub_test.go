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

// TestLinkOfTwo has two daemons hear each other, and not themselves.
func TestLinkOfTwo(t *testing.T) {
	s := newServer(t)
	ea, eb := newEars(), newEars()
	a, b := newTier(t, s.url(), ea.listen), newTier(t, s.url(), eb.listen)
	eventually(t, "both links stand", func() bool { return a.Linked() && b.Linked() })
	for range 50 {
		x, y := newThing(), newThing()
		start := time.Now()
		bump(t, a, x)
		bump(t, b, y)
		eventually(t, "both hear", func() bool { return ea.has(y.gen) && eb.has(x.gen) })
		if ea.has(x.gen) || eb.has(y.gen) {
			t.Error("a daemon's own bump came back to it")
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("heard after %v", took)
		}
	}
	if ea.losses()+eb.losses() > 0 {
		t.Error("lost on a link that held")
	}
}

// TestLinkCut ends the connection in three ways: the link is lost, stands again within 5 s of the server's return, and the
// listener is told that it may have missed something.
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
			e, log := newEars(), &lines{}
			tier := newTier(t, s.url(), e.listen, func(o *redis.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
			eventually(t, "the link stands", tier.Linked)
			cut(s, tier)
			start := time.Now()
			eventually(t, "the listener hears of it", func() bool { return e.losses() == 1 && tier.Linked() })
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("the link stands after %v", took)
			}
			x := newThing()
			eventually(t, "the tier works", func() bool { return works(tier) })
			other := newTier(t, s.url())
			eventually(t, "the other daemon's tier works", func() bool { return works(other) })
			bump(t, other, x)
			eventually(t, "a bump is heard", func() bool { return e.has(x.gen) })
			if text := log.String(); strings.Count(text, "are not heard") != 1 || strings.Count(text, "heard again") != 1 {
				t.Errorf("the log says:\n%s", text)
			}
		})
	}
}

// TestLinkLate: what was read before the link stood for the first time may be old, and the listener is told.
func TestLinkLate(t *testing.T) {
	s := newServer(t)
	s.do("ACL", "SETUSER", "default", "resetchannels") // nothing can be subscribed to
	e := newEars()
	tier := newTier(t, s.url(), e.listen)
	store(t, tier, newThing(), "read without a link")
	if tier.Linked() {
		t.Error("linked to nothing")
	}
	s.do("ACL", "SETUSER", "default", "allchannels")
	eventually(t, "the link stands", tier.Linked)
	if e.losses() != 1 {
		t.Errorf("%d losses, want 1", e.losses())
	}
}

// TestLinkUnread: a message that says nothing known is taken for one that may say anything.
func TestLinkUnread(t *testing.T) {
	s := newServer(t)
	e := newEars()
	tier := newTier(t, s.url(), e.listen)
	eventually(t, "the link stands", tier.Linked)
	for i, payload := range []string{"", "short", strings.Repeat("x", 16*1025)} {
		s.do("PUBLISH", "fluentd-perf:2:test:bumps", payload)
		eventually(t, "it is told", func() bool { return e.losses() == i+1 })
	}
	s.do("PUBLISH", "fluentd-perf:2:test:bumps", strings.Repeat("x", 100_000)) // over what a link takes: it is cut
	eventually(t, "it is told", func() bool { return e.losses() == 4 && tier.Linked() })
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
