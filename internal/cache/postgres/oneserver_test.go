package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/tier"
)

// relay is an address that leads to one server after the other. A move leaves the connections that are open where they are.
type relay struct {
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards the following
	to    int        // the port of the server for new connections
	other int        // that of those at odd places, where it is not 0
	taken int
	conns []net.Conn
}

func newRelay(t *testing.T, to *pgServer) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, to: to.port}
	r.running.Go(r.serve)
	t.Cleanup(r.close)
	return r
}

func (r *relay) serve() {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.next()))
		if err != nil {
			_ = near.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, near, far)
		r.mu.Unlock()
		for to, from := range map[net.Conn]net.Conn{near: far, far: near} {
			r.running.Go(func() {
				_, _ = io.Copy(to, from)
				_, _ = near.Close(), far.Close()
			})
		}
	}
}

// next is the port for a new connection.
func (r *relay) next() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken++; r.other != 0 && r.taken%2 == 1 {
		return r.other
	}
	return r.to
}

// move has new connections get to the server, and every other one to another, where there is one.
func (r *relay) move(to *pgServer, others ...*pgServer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to, r.other = to.port, 0
	for _, o := range others {
		r.other = o.port
	}
}

func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}

// open opens a tier of a daemon at the relay's address.
func (r *relay) open(t *testing.T, change func(*postgres.Options)) *postgres.Tier {
	t.Helper()
	opt := postgres.Options{
		URL:    fmt.Sprintf("postgres://test:secret@%s/postgres?sslmode=disable", r.listener.Addr()),
		Prefix: "0123abcd", Timeout: 5 * time.Second,
	}
	if change != nil {
		change(&opt)
	}
	held, err := postgres.OpenTier(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeTier(t, held) })
	return held
}

// end ends connections at a server: those of calls, or those that listen.
func (s *pgServer) end(what string) {
	s.t.Helper()
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fluentd-perf' AND query " + what)
}

// listeners is how many connections listen at a server.
func (s *pgServer) listeners() int64 {
	return s.number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fluentd-perf' AND query " + theLink)
}

// Which connections are meant: those that listen ask for a sign of life, too, and calls do not.
const (
	theCalls = "!" + theLink
	theLink  = "~ '^(LISTEN|-- ping)'"
)

// TestMoves has the address of two daemons move from one server to another that lives beside it and came from the
// same files, so that it has the same system identifier, and either the connections of calls or the link be made anew: both
// are at one server soon, and no daemon finds what the other has bumped.
func TestMoves(t *testing.T) {
	for name, ended := range map[string]string{"the calls go": theCalls, "the link goes": theLink} {
		t.Run(name, func(t *testing.T) {
			a, b := startPostgres(t), startPostgres(t)
			const identity = "SELECT system_identifier FROM pg_control_system()"
			if a.number(identity) != b.number(identity) {
				t.Fatal("the servers have system identifiers of their own")
			}
			closeTier(t, open(t, b, nil)) // it has the tables: where they lack, the link is made anew
			r, told := newRelay(t, a), new(counter)
			one := r.open(t, func(o *postgres.Options) { o.Listener = told.listener() })
			eventually(t, "the link stands", one.Linked)
			x, y := newEntry(), newEntry()
			store(t, one, x, []byte("old"))
			lost := told.lost.Load()
			r.move(b)
			a.end(ended)
			other := r.open(t, nil)
			eventually(t, "one daemon is told of the other's bumps at the new server", func() bool {
				before := told.bumped.Load()
				_ = other.Bump(t.Context(), []tier.Generation{y.Generation})
				return works(t, one) && one.Linked() && other.Linked() && told.bumped.Load() > before && b.listeners() == 2
			})
			if told.lost.Load() == lost {
				t.Error("nobody is told that changes may have been missed")
			}
			z := newEntry()
			store(t, one, z, []byte("shared"))
			wantValue(t, other, z, "shared")
			if err := other.Bump(t.Context(), []tier.Generation{z.Generation}); err != nil {
				t.Fatal(err)
			}
			wantNone(t, one, z)
			wantNone(t, one, x)
		})
	}
}

// TestIsTwoServers has an address lead to two servers in turn: no call reads at one while changes are received from the
// other, the tier says why, does not dial without a rest, and works when there is one again.
func TestIsTwoServers(t *testing.T) {
	a, b := startPostgres(t), startPostgres(t)
	r, said := newRelay(t, a), new(lines)
	one := r.open(t, func(o *postgres.Options) { o.Log, o.Pool = said.Logger(), 1 })
	eventually(t, "the link stands", one.Linked)
	r.move(a, b)
	a.end(theCalls)
	a.end(theLink)
	var refused error
	eventually(t, "a call and the log say why", func() bool {
		_, _, err := tryRead(t.Context(), one, newEntry())
		if errors.Is(err, tier.ErrOtherServer) {
			refused = err
		}
		return refused != nil && said.Has(tier.ErrOtherServer.Error())
	})
	if text := tier.ErrOtherServer.Error(); !strings.Contains(refused.Error(), text) {
		t.Errorf("%v does not say %q", refused, text)
	}
	r.move(b)
	a.end(theCalls)
	a.end(theLink)
	eventually(t, "it is at the one server", func() bool { return works(t, one) && one.Linked() && b.listeners() == 1 })
}

// TestConnectionOutdated has the link be at another server when a call has its connection already, whether that was
// taken from the pool before or not: what it read is not used, since its changes are not told.
func TestConnectionOutdated(t *testing.T) {
	moved := func(held *postgres.Tier) { held.OneServer().Linked("another server", func() {}) }
	for name, meanwhile := range map[string]func(t *testing.T, s *pgServer, held *postgres.Tier, call func()){
		"in the pool": func(_ *testing.T, _ *pgServer, held *postgres.Tier, call func()) { moved(held); call() },
		"under way":   outdatedUnderWay(moved),
		"moved twice": func(_ *testing.T, _ *pgServer, held *postgres.Tier, call func()) {
			moved(held)
			held.OneServer().Linked("a third server", func() {})
			call()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := commonPostgres(t)
			held := open(t, s, func(o *postgres.Options) { o.Pool = 1 })
			defer closeTier(t, held)
			e := newEntry()
			store(t, held, e, []byte("of another server"))
			meanwhile(t, s, held, func() {
				if value, _, err := tryRead(t.Context(), held, e); !errors.Is(err, tier.ErrOtherServer) {
					t.Errorf("read %q, %v", value, err)
				}
			})
			s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query " + theLink)
			eventually(t, "it is used again", func() bool { return works(t, held) && held.Linked() })
		})
	}
}

// outdatedUnderWay has a call wait for a lock while the server changes.
func outdatedUnderWay(moved func(*postgres.Tier)) func(*testing.T, *pgServer, *postgres.Tier, func()) {
	return func(t *testing.T, s *pgServer, held *postgres.Tier, call func()) {
		other := s.connect()
		defer other.Close(context.Background())
		if _, err := other.Exec(t.Context(), "BEGIN; LOCK TABLE fluentd_perf_entries, fluentd_perf_tokens IN ACCESS EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		calls.Go(call)
		eventually(t, "the call waits", func() bool {
			return s.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
		})
		moved(held)
		if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		calls.Wait()
	}
}

// TestLinkIsCutBeforeItStands has a connection be at another server after the link was noted and before it stands.
// Nobody is told that it stands, and the next one does.
func TestLinkIsCutBeforeItStands(t *testing.T) {
	s, said := commonPostgres(t), new(lines)
	var held atomic.Pointer[postgres.Tier]
	var linked atomic.Int32
	watch := lineFunc(func(text string) {
		if strings.Contains(text, "postgres is in use") && linked.Load() == 1 {
			t.Errorf("a link that was cut: %s; it counts as linked: %t", text, held.Load().Linked())
		}
	})
	held.Store(open(t, s, func(o *postgres.Options) {
		o.Log = slog.New(slog.NewTextHandler(io.MultiWriter(said, watch), nil))
		o.Listener.Lost = func() {
			if linked.Add(1) == 1 {
				if err := held.Load().OneServer().Admit("another server"); !errors.Is(err, tier.ErrOtherServer) {
					t.Errorf("a connection at another server: %v", err)
				}
			}
		}
	}))
	defer closeTier(t, held.Load())
	eventually(t, "it is said that the link stands", func() bool { return said.Has("postgres is in use") })
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query " + theLink)
	eventually(t, "the next link stands", func() bool { return linked.Load() == 2 && held.Load().Linked() })
	if !said.Has(tier.ErrOtherServer.Error()) {
		t.Error("nothing says why the link was cut")
	}
}

// lineFunc is told each line of a log.
type lineFunc func(line string)

// Write implements io.Writer.
func (f lineFunc) Write(line []byte) (int, error) { f(string(line)); return len(line), nil }
