package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// tight is a timeout that a call must keep even here; a call may take twice as long on a busy machine.
const tight = 250 * time.Millisecond

func tightly(o *postgres.Options) { o.Timeout = tight }

// counter counts what a listener is told.
type counter struct {
	lost   atomic.Int64
	bumped atomic.Int64
}

func (e *counter) listener() tier.Listener {
	return tier.Listener{
		Bumped: func(generations []tier.Generation) { e.bumped.Add(int64(len(generations))) },
		Lost:   func() { e.lost.Add(1) },
	}
}

// callsEnd has each kind of call end in time, whatever it says.
func callsEnd(t *testing.T, held tier.Tier, limit time.Duration) {
	t.Helper()
	e, stopwatch := newEntry(), tiertest.Stopwatch(t)
	for name, call := range map[string]func() error{
		"Read":   func() error { _, _, err := tryRead(t.Context(), held, e); return err },
		"Write":  func() error { return tryWrite(t.Context(), held, e, 1, []byte("x"), time.Hour) },
		"Bump":   func() error { return held.Bump(t.Context(), []tier.Generation{e.Generation}) },
		"Delete": func() error { return held.Delete(t.Context(), []tier.Key{e.Key}) },
	} {
		var err error
		took := stopwatch(func() { err = call() })
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if took > limit {
			t.Errorf("%s took %v, want at most %v", name, took, limit)
		}
	}
}

func TestMayComeLater(t *testing.T) {
	s := startPostgres(t)
	s.kill()
	told := new(counter)
	held, err := postgres.OpenTier(postgres.Options{URL: s.url(), Prefix: "0123abcd", Timeout: tight, Listener: told.listener()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, held)
	callsEnd(t, held, 2*tight)
	if _, _, err := tryRead(t.Context(), held, newEntry()); !errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("before it comes: %v", err)
	}
	s.restart()
	worksWithin(t, held, 5*time.Second)
	if told.lost.Load() != 0 {
		t.Error("Lost at the first connection")
	}
}

func TestCrashes(t *testing.T) {
	s := startPostgres(t)
	told := new(counter)
	held := open(t, s, func(o *postgres.Options) { tightly(o); o.Listener = told.listener() })
	defer closeTier(t, held)
	e := newEntry()
	eventually(t, "an entry is stored", func() bool { return tryStore(t.Context(), held, e, []byte("before"), time.Hour) == nil })
	_, token := read(t, held, e)
	stop := load(t, held)
	s.kill()
	eventually(t, "calls fail", func() bool { _, _, err := tryRead(t.Context(), held, e); return err != nil })
	callsEnd(t, held, 2*tight)
	s.restart()
	worksWithin(t, held, 5*time.Second)
	if longest := stop(); longest > 4*tight {
		t.Errorf("a call took %v", longest)
	}
	// The tables came back empty: what was written before is gone, and so are its tokens. A call may fail on a connection
	// from before the link, or for want of time.
	eventually(t, "a late write is taken", func() bool { return tryWrite(t.Context(), held, e, token, []byte("late"), time.Hour) == nil })
	var got []byte
	eventually(t, "a read is answered", func() bool {
		value, _, err := tryRead(t.Context(), held, e)
		got = value
		return err == nil
	})
	if got != nil {
		t.Errorf("got %q, want no entry", got)
	}
	eventually(t, "the loss is told", func() bool { return told.lost.Load() >= 1 })
}

// TestIsRestarted stops the server as its operator does: what was stored is there afterwards.
func TestIsRestarted(t *testing.T) {
	s := startPostgres(t)
	told := new(counter)
	held := open(t, s, func(o *postgres.Options) { o.Listener = told.listener() })
	defer closeTier(t, held)
	e := newEntry()
	store(t, held, e, []byte("kept"))
	s.stop()
	eventually(t, "the link is down", func() bool { return !held.Linked() })
	callsEnd(t, held, 10*time.Second)
	s.restart()
	worksWithin(t, held, 5*time.Second)
	wantValue(t, held, e, "kept")
	eventually(t, "the loss is told", func() bool { return told.lost.Load() == 1 && held.Linked() })
}

// TestLinkAloneBreaks has a bump be missed: the tier has it at once, and Lost is called before the link stands.
func TestLinkAloneBreaks(t *testing.T) {
	s := commonPostgres(t)
	told := new(counter)
	held := open(t, s, func(o *postgres.Options) { o.Listener = told.listener() })
	defer closeTier(t, held)
	other := open(t, s, func(o *postgres.Options) { o.URL += "&application_name=other" })
	defer closeTier(t, other)
	e := newEntry()
	for i := range int64(3) {
		store(t, held, e, []byte("old"))
		s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fluentd-perf' AND query LIKE 'LISTEN%'")
		eventually(t, "the link is down, or was", func() bool { return !held.Linked() || told.lost.Load() > i })
		if err := other.Bump(t.Context(), []tier.Generation{e.Generation}); err != nil {
			t.Fatal(err)
		}
		wantNone(t, held, e)
		eventually(t, "the link stands", held.Linked)
		if n := told.lost.Load(); n != i+1 {
			t.Errorf("Lost was called %d times, want %d", n, i+1)
		}
	}
}

func TestHangs(t *testing.T) {
	s := startPostgres(t)
	told := new(counter)
	held := open(t, s, func(o *postgres.Options) { tightly(o); o.Listener = told.listener() })
	worksWithin(t, held, 5*time.Second)
	stop := load(t, held)
	s.hang()
	defer s.signal(syscall.SIGCONT)
	start := time.Now()
	callsEnd(t, held, 2*tight)
	eventually(t, "the link is cut", func() bool { callsEnd(t, held, 2*tight); return !held.Linked() })
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("the link was cut after %v", took)
	}
	s.signal(syscall.SIGCONT)
	worksWithin(t, held, 5*time.Second)
	if longest := stop(); longest > 4*tight {
		t.Errorf("a call took %v", longest)
	}
	eventually(t, "the loss is told", func() bool { return told.lost.Load() >= 1 && held.Linked() })

	s.hang()
	callsEnd(t, held, 2*tight)
	start = time.Now()
	closeTier(t, held)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	s.signal(syscall.SIGCONT)
}

// TestIsSlow has another client lock the tables. The calls that gave up leave nothing behind.
func TestIsSlow(t *testing.T) {
	s := commonPostgres(t)
	held := open(t, s, tightly)
	defer closeTier(t, held)
	worksWithin(t, held, 5*time.Second)
	other := s.connect()
	defer other.Close(context.Background())
	if _, err := other.Exec(t.Context(), "BEGIN; LOCK TABLE fluentd_perf_entries, fluentd_perf_tokens IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		callsEnd(t, held, 2*tight)
	}
	if n := s.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fluentd-perf'"); n > 10 {
		t.Errorf("%d connections on the server", n)
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	worksWithin(t, held, 5*time.Second)
	eventually(t, "nothing is left behind", func() bool {
		return s.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fluentd-perf'") <= 5
	})
}

func TestHasNoConnectionLeft(t *testing.T) {
	s := startPostgres(t, "max_connections=12", "superuser_reserved_connections=2")
	held := open(t, s, tightly)
	defer closeTier(t, held)
	var others []*pgx.Conn
	for {
		conn, err := pgx.Connect(t.Context(), strings.Replace(s.url(), "test:secret", "test", 1))
		if err != nil {
			break
		}
		others = append(others, conn)
	}
	callsEnd(t, held, 2*tight)
	for _, conn := range others {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	worksWithin(t, held, 5*time.Second)
}

// TestConnectionsAreReplaced ends all of the tier's connections, as a restart of a pooler or a firewall does.
func TestConnectionsAreReplaced(t *testing.T) {
	s := commonPostgres(t)
	told := new(counter)
	held := open(t, s, func(o *postgres.Options) { o.Listener = told.listener() })
	defer closeTier(t, held)
	e := newEntry()
	store(t, held, e, []byte("kept"))
	for range 3 {
		lost := told.lost.Load()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { _, _, _ = tryRead(t.Context(), held, e) }) // the pool is full
		}
		group.Wait()
		s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fluentd-perf'")
		wantValue(t, held, e, "kept") // without an error
		eventually(t, "the loss is told", func() bool { return told.lost.Load() == lost+1 })
	}
}

func TestCallersMayLeave(t *testing.T) {
	s := commonPostgres(t)
	held := open(t, s, nil)
	defer closeTier(t, held)
	e := newEntry()
	store(t, held, e, []byte("x"))
	before := held.Stats().Fresh
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_, _, _ = tryRead(ctx, held, e)
		cancel()
	}
	if now := held.Stats(); now.Fresh != before || now.Active != 0 || now.Open < 1 || now.Reused < 1 {
		t.Errorf("%d connections made before, then %+v", before, now)
	}
}
