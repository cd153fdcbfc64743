package redis_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier"
)

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// relay is an address that leads to one server after the other. A move leaves the connections that are open where they are.
type relay struct {
	mu sync.Mutex // guards the following
	to *server
}

func newRelay(t *testing.T, to *server) (r *relay, url string) {
	r = &relay{to: to}
	return r, fakeServer(t, r.carry)
}

func (r *relay) carry(c net.Conn) {
	r.mu.Lock()
	to := r.to
	r.mu.Unlock()
	direct, err := net.Dial("unix", to.socket())
	if err != nil {
		return
	}
	defer direct.Close()
	go func() {
		_, _ = io.Copy(direct, c)
		_ = direct.Close()
	}()
	_, _ = io.Copy(c, direct)
}

func (r *relay) move(to *server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

// TestOneServer has the address of two daemons move from one server to another that lives beside it, and either the
// connections of calls or the link be made anew, or only age: both are at one server soon, and no daemon finds what the other has bumped.
func TestOneServer(t *testing.T) {
	for name, cut := range map[string]string{"the calls go": "normal", "the link goes": "pubsub", "none breaks": ""} {
		for _, replica := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", to its replica"}[replica], func(t *testing.T) {
				port := freePort(t)
				a, b := newServer(t), newServer(t, "--port", port, "--bind", "127.0.0.1")
				r, url := newRelay(t, a)
				recorded := newRecorder()
				one := newTier(t, url, recorded.listen, func(o *redis.Options) {
					if cut == "" {
						o.Lifetime = 200 * time.Millisecond
					}
				})
				eventually(t, "the link stands", one.Linked)
				x := newThing()
				store(t, one, x, "old")
				losses := recorded.losses()
				r.move(b)
				if replica {
					a.do("REPLICAOF", "127.0.0.1", port)
				}
				if cut != "" {
					a.do("CLIENT", "KILL", "TYPE", cut, "SKIPME", "yes")
				}
				other := newTier(t, url, newRecorder().listen)
				y := newThing()
				eventually(t, "one daemon receives what the other bumps at the new server", func() bool {
					_ = other.Bump(context.Background(), []tier.Generation{y.gen})
					return works(one) && one.Linked() && other.Linked() && recorded.has(y.gen) && b.do("PUBSUB", "NUMSUB", "fluentd-perf:2:test:bumps").([]any)[1] == int64(2)
				})
				if recorded.losses() == losses {
					t.Error("nobody learns that changes may have been missed")
				}
				z := newThing()
				store(t, one, z, "shared")
				want(t, other, z, "shared")
				bump(t, other, z)
				want(t, one, z, "")
				want(t, one, x, "")
			})
		}
	}
}

// TestLinkIsCutBeforeItStands has a connection be at another server after the link was noted and before it stands. Nobody
// learns that it stands, and the next one does.
func TestLinkIsCutBeforeItStands(t *testing.T) {
	s, log := newServer(t), new(lines)
	var rt atomic.Pointer[redis.Tier]
	var links atomic.Int32
	watch := lineFunc(func(line string) {
		if strings.Contains(line, "received again") && links.Load() == 1 {
			t.Errorf("a link that was cut: %s", line)
		}
	})
	rt.Store(newTier(t, s.url(), func(o *redis.Options) {
		o.Log = slog.New(slog.NewTextHandler(io.MultiWriter(log, watch), nil))
		o.Listener.Lost = func() {
			if links.Add(1) == 1 {
				if err := rt.Load().OneServer().Admit("another server"); !errors.Is(err, tier.ErrOtherServer) {
					t.Errorf("a connection at another server: %v", err)
				}
			}
		}
	}))
	eventually(t, "the link stands", rt.Load().Linked)
	s.do("CLIENT", "KILL", "TYPE", "pubsub")
	eventually(t, "the next link stands, and that is logged", func() bool {
		return links.Load() == 2 && rt.Load().Linked() && strings.Contains(log.String(), "received again")
	})
}

// lineFunc is called with each line of a log.
type lineFunc func(line string)

// Write implements io.Writer.
func (f lineFunc) Write(line []byte) (int, error) { f(string(line)); return len(line), nil }
