package redis_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// calls are one of each, on a thing.
func calls(rt *redis.Tier, x thing) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Read":   func(ctx context.Context) error { _, err := rt.Read(ctx, x.lookups()); return err },
		"Write":  func(ctx context.Context) error { return rt.Write(ctx, x.writes("v", []tier.Token{1})) },
		"Bump":   func(ctx context.Context) error { return rt.Bump(ctx, []tier.Generation{x.gen}) },
		"Delete": func(ctx context.Context) error { return rt.Delete(ctx, []tier.Key{x.key}) },
	}
}

// TestHung stops the server: every call fails within twice the timeout, many at once as well, and the tier works again
// when the server does.
func TestHung(t *testing.T) {
	const timeout = 400 * time.Millisecond // longer than a busy machine stalls
	s := newServer(t)
	short := func(o *redis.Options) { o.Timeout, o.Pool = timeout, 4 }
	rt := newTier(t, s.url(), short)
	cold := newTier(t, s.url(), short) // has no connection yet
	linked := open(t, s.url(), short, newRecorder().listen)
	eventually(t, "the link stands", linked.Linked)
	eventually(t, "the tier works", func() bool { return works(rt) })
	s.hang()
	stopwatch := tiertest.Stopwatch(t)
	var group sync.WaitGroup
	for _, rt := range []*redis.Tier{rt, cold} {
		for name, call := range calls(rt, newThing()) {
			for range 5 {
				group.Go(func() {
					var err error
					took := stopwatch(func() { err = call(context.Background()) })
					if !errors.Is(err, context.DeadlineExceeded) || took > 2*timeout {
						t.Errorf("%s: %v after %v, want a timeout within %v", name, err, took, 2*timeout)
					}
				})
			}
		}
	}
	group.Wait()
	for _, rt := range []*redis.Tier{linked, open(t, s.url(), short, newRecorder().listen)} {
		var err error
		if took := stopwatch(func() { err = rt.Close() }); err != nil || took > timeout {
			t.Errorf("Close: %v after %v", err, took)
		}
	}
	s.resume()
	start := time.Now()
	eventually(t, "both work again", func() bool { return works(rt) && works(cold) })
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("they work again after %v", took)
	}
}

// TestContextEnds: a call ends with its context where that is sooner.
func TestContextEnds(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url(), func(o *redis.Options) { o.Timeout = 10 * time.Second })
	eventually(t, "the tier works", func() bool { return works(rt) })
	s.hang()
	for name, call := range calls(rt, newThing()) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		start := time.Now()
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want a timeout", name, err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s ended after %v", name, took)
		}
		cancel()
	}
}

// TestKilled kills the server under load, several times: calls fail, none hangs, and each time the tier is back soon after
// the server is.
func TestKilled(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url(), func(o *redis.Options) { o.Timeout = 400 * time.Millisecond })
	eventually(t, "the tier works", func() bool { return works(rt) })
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	var done atomic.Int64
	for range 8 {
		group.Go(func() {
			for ctx.Err() == nil {
				if works(rt) {
					done.Add(1)
				}
			}
		})
	}
	for range 3 {
		before := done.Load()
		eventually(t, "there is load", func() bool { return done.Load() > before+20 })
		s.kill()
		if works(rt) {
			t.Error("it works without a server")
		}
		s.start()
		start := time.Now()
		eventually(t, "it works again", func() bool { return works(rt) })
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it works again after %v", took)
		}
	}
}

// TestDead: a tier on no server says so at once, however often it is asked, and closes at once.
func TestDead(t *testing.T) {
	rt := newTier(t, "unix:///nonexistent/redis.sock", newRecorder().listen)
	for range 100 {
		for name, call := range calls(rt, newThing()) {
			if err := call(context.Background()); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("%s: %v, want the cause", name, err)
			}
		}
	}
}

// TestRestored brings a server back with an older state from its disk: what was bumped in between stays bumped, and what
// was read before is not written after.
func TestRestored(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url())
	x := newThing()
	old := store(t, rt, x, "old")
	s.do("SAVE")
	saved, err := os.ReadFile(filepath.Join(s.dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	bump(t, rt, x)
	want(t, rt, x, "")
	s.kill()
	if err := os.WriteFile(filepath.Join(s.dir, "dump.rdb"), saved, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	if n := len(s.keys("*:v:*")) + len(s.keys("*:g:*")); n != 2 {
		t.Fatalf("%d keys came back, want 2: the test proves nothing", n)
	}
	eventually(t, "the tier is back", func() bool { return works(rt) })
	want(t, rt, x, "")
	if err := rt.Write(context.Background(), x.writes("late", old)); err != nil {
		t.Fatal(err)
	}
	want(t, rt, x, "")
}

// TestFull fills the server's memory: writes are errors that say so, what is there is still read, and a bump holds.
func TestFull(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url())
	x, y := newThing(), newThing()
	tokens := store(t, rt, x, "there before")
	s.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	s.do("CONFIG", "SET", "maxmemory", "1000")
	if err := rt.Write(context.Background(), x.writes("more", tokens)); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("writing: %v, want OOM", err)
	}
	_, none := read(t, rt, y)
	want(t, rt, x, "there before")
	bump(t, rt, x)
	want(t, rt, x, "")
	s.do("CONFIG", "SET", "maxmemory", "0")
	for _, w := range [][]tier.Write{x.writes("late", tokens), y.writes("without a token", none)} {
		if err := rt.Write(context.Background(), w); err != nil {
			t.Fatal(err)
		}
	}
	want(t, rt, x, "")
	want(t, rt, y, "")
	if !works(rt) {
		t.Error("it does not work with room again")
	}
}

// TestEvicting gives the server room for a part only: what it evicts, tokens too, is a miss and never an error.
func TestEvicting(t *testing.T) {
	s := newServer(t, "--maxmemory", "4mb", "--maxmemory-policy", "allkeys-random")
	rt := newTier(t, s.url())
	things := make([]thing, 300)
	value := strings.Repeat("v", 20_000)
	for i := range things {
		things[i] = newThing()
		store(t, rt, things[i], value)
	}
	hits := 0
	for _, x := range things {
		switch got, _ := read(t, rt, x); got {
		case value:
			hits++
		case "":
		default:
			t.Fatal("neither the value nor a miss")
		}
	}
	if hits == 0 || hits == len(things) {
		t.Errorf("%d hits of %d: the test proves nothing", hits, len(things))
	}
}

// TestPassword: the server's refusal is every call's error, and says what is wrong without naming the password.
func TestPassword(t *testing.T) {
	s := newServer(t)
	s.do("CONFIG", "SET", "requirepass", "s3cret")
	if !works(newTier(t, "unix://:s3cret@"+s.socket())) {
		t.Error("it does not work with the password")
	}
	for login, words := range map[string][]string{
		":wr0ng@":    {"refuses the user or the password", "WRONGPASS"},
		"bob:wr0ng@": {"refuses the user or the password", "WRONGPASS"},
		"":           {"wants a password", "NOAUTH"},
	} {
		log := &lines{}
		rt := newTier(t, "unix://"+login+s.socket(), newRecorder().listen, func(o *redis.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
		check := func(what, text string) {
			for _, w := range words {
				if !strings.Contains(text, w) {
					t.Errorf("%q, %s: %s; want %q in it", login, what, text, w)
				}
			}
			if strings.Contains(text, "wr0ng") {
				t.Errorf("%q, %s tells the password: %s", login, what, text)
			}
		}
		for name, call := range calls(rt, newThing()) {
			err := call(context.Background())
			if err == nil {
				t.Errorf("%q, %s: no error", login, name)
				continue
			}
			check(name, err.Error())
		}
		eventually(t, "the log says it", func() bool { return strings.Contains(log.String(), "are not received") })
		check("the log", log.String())
		if !strings.Contains(log.String(), "redis refuses the daemon: invalidations by other daemons are not received") {
			t.Errorf("%q: %s", login, log)
		}
	}
}

// TestDeadLogged: a server that is not there is logged in plain words, once.
func TestDeadLogged(t *testing.T) {
	log := &lines{}
	newTier(t, "unix:///nonexistent/redis.sock", newRecorder().listen, func(o *redis.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	eventually(t, "the log says it", func() bool { return log.String() != "" })
	if text := log.String(); strings.Count(text, "redis cannot be reached: invalidations by other daemons are not received") != 1 ||
		!strings.Contains(text, "no such file") {
		t.Errorf("the log says:\n%s", text)
	}
}
