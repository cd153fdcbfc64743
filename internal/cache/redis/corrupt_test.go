package redis_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier"
)

// TestPlanted puts things in the place of a value: each is a miss and gone, and the next write is a hit.
func TestPlanted(t *testing.T) {
	s := newServer(t)
	held := newTier(t, s.url(), func(o *redis.Options) { o.MaxValue = 1000 })
	x := newThing()
	store(t, held, x, "the value")
	key := s.onlyKey("fluentd-perf:2:test:v:*")
	good := s.do("GET", key).(string)
	for name, plant := range map[string]func(){
		"rubbish":          func() { s.do("SET", key, "rubbish") },
		"one byte":         func() { s.do("SET", key, good[:1]) },
		"cut":              func() { s.do("SET", key, good[:len(good)-1]) },
		"cut in its head":  func() { s.do("SET", key, good[:20]) },
		"longer":           func() { s.do("APPEND", key, "!") },
		"another format":   func() { s.do("SETRANGE", key, 0, "\x01") },
		"no tokens":        func() { s.do("SETRANGE", key, 1, "\x00") },
		"many tokens":      func() { s.do("SETRANGE", key, 1, "\xff") },
		"a later expiry":   func() { s.do("SETRANGE", key, 2, "\x7f") },
		"an altered value": func() { s.do("SETRANGE", key, len(good)-1, "!") },
		"too large":        func() { s.do("SETRANGE", key, 5_000_000, "!") },
		"a list":           func() { s.do("DEL", key); s.do("RPUSH", key, good) },
	} {
		t.Run(name, func(t *testing.T) {
			s.do("SET", key, good)
			want(t, held, x, "the value")
			plant()
			want(t, held, x, "")
			if n := s.do("EXISTS", key); n != int64(0) {
				t.Error("it is still there")
			}
			store(t, held, x, "the value again")
			want(t, held, x, "the value again")
		})
	}
}

// TestPlantedElsewhere copies an entry to the name of another.
func TestPlantedElsewhere(t *testing.T) {
	s := newServer(t)
	held := newTier(t, s.url())
	x, y := newThing(), newThing()
	y.gen = x.gen
	store(t, held, x, "of x")
	from := s.onlyKey("fluentd-perf:2:test:v:*")
	store(t, held, y, "of y")
	for _, to := range s.keys("fluentd-perf:2:test:v:*") {
		if to != from {
			s.do("COPY", from, to, "REPLACE")
		}
	}
	want(t, held, x, "of x")
	want(t, held, y, "")
}

// TestPlantedTokens puts things in the place of a token, and of its slot. Where another token is there the entry is a miss.
// Where the token has gone, as by an eviction, nothing was bumped: the entry holds until its slot's number goes as well.
// Tokens work again at once.
func TestPlantedTokens(t *testing.T) {
	const slots = "fluentd-perf:2:test:s"
	s := newServer(t)
	held := newTier(t, s.url())
	for name, test := range map[string]struct {
		plant func(key string)
		holds bool
	}{
		"gone":         {func(key string) { s.do("DEL", key) }, true},
		"empty":        {func(key string) { s.do("SET", key, "") }, true},
		"a hash":       {func(key string) { s.do("DEL", key); s.do("HSET", key, "a", "b") }, true},
		"another":      {func(key string) { s.do("SET", key, "another") }, false},
		"too large":    {func(key string) { s.do("SETRANGE", key, 5_000_000, "!") }, false},
		"both gone":    {func(key string) { s.do("DEL", key, slots) }, false},
		"slots gone":   {func(string) { s.do("DEL", slots) }, true},
		"slots a text": {func(key string) { s.do("DEL", key, slots); s.do("SET", slots, "text") }, false},
		"slots odd": {func(key string) {
			s.do("DEL", key)
			for _, field := range s.do("HKEYS", slots).([]any) {
				s.do("HSET", slots, field, "odd")
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s.do("FLUSHALL")
			x := newThing()
			old := store(t, held, x, "the value")
			test.plant(s.onlyKey("fluentd-perf:2:test:g:*"))
			want(t, held, x, map[bool]string{true: "the value"}[test.holds])
			if !test.holds {
				if err := held.Write(context.Background(), x.writes("late", old)); err != nil {
					t.Fatal(err)
				}
				want(t, held, x, "")
			}
			store(t, held, x, "anew")
			want(t, held, x, "anew")
			bump(t, held, x)
			want(t, held, x, "")
			store(t, held, x, "last")
			want(t, held, x, "last")
		})
	}
}

// TestForgotten flushes what the server knows, data and scripts, in the middle of the work.
func TestForgotten(t *testing.T) {
	s := newServer(t)
	held := newTier(t, s.url())
	x := newThing()
	old := store(t, held, x, "the value")
	s.do("FLUSHALL")
	s.do("SCRIPT", "FLUSH")
	if err := held.Write(context.Background(), x.writes("late", old)); err != nil {
		t.Fatal(err)
	}
	want(t, held, x, "")
	store(t, held, x, "anew")
	s.do("SCRIPT", "FLUSH")
	want(t, held, x, "anew")
}

// TestLives looks at how long things stay on the server.
func TestLives(t *testing.T) {
	s := newServer(t)
	held := newTier(t, s.url())
	x := newThing()
	_, tokens := read(t, held, x)
	w := x.writes("the value", tokens)
	w[0].Expires = time.Now().Add(1000 * time.Hour)
	if err := held.Write(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	want(t, held, x, "the value")
	day := 26 * 3600 * 1000
	within := func(key string, most int) {
		t.Helper()
		if ms := s.do("PTTL", key).(int64); ms > int64(most)+10 || ms < int64(most)-60_000 {
			t.Errorf("%s lives for %d ms, want %d", key, ms, most)
		}
	}
	value, token := s.onlyKey("*:v:*"), s.onlyKey("*:g:*")
	within(value, day)
	s.do("EXPIRE", token, 60)
	store(t, held, x, "again")
	within(value, 3600*1000)
	within(token, day)
	bump(t, held, x)
	if n := len(s.keys("*:g:*")); n != 0 {
		t.Errorf("%d tokens are left after a bump", n)
	}
}

// TestPrefixes gives two daemons with different partition keys one server.
func TestPrefixes(t *testing.T) {
	s := newServer(t)
	hears := newEars()
	a := newTier(t, s.url(), func(o *redis.Options) { o.Prefix = "a" })
	b := newTier(t, s.url(), func(o *redis.Options) { o.Prefix = "b" }, hears.listen)
	eventually(t, "the link stands", b.Linked)
	x, y := newThing(), newThing()
	store(t, a, x, "of a")
	store(t, b, x, "of b")
	want(t, a, x, "of a")
	bump(t, a, x)
	want(t, a, x, "")
	want(t, b, x, "of b")
	bump(t, newTier(t, s.url(), func(o *redis.Options) { o.Prefix = "b" }), y)
	eventually(t, "b hears its own prefix", func() bool { return hears.has(y.gen) })
	if hears.has(x.gen) {
		t.Error("b hears a")
	}
}

// TestDatabases: the number in the URL is where entries are.
func TestDatabases(t *testing.T) {
	s := newServer(t)
	a, b := newTier(t, s.url()), newTier(t, s.url()+"?db=3")
	x := newThing()
	store(t, a, x, "in 0")
	want(t, b, x, "")
	want(t, a, x, "in 0")
}

// TestWritesRefused: one write that cannot be leaves the others alone.
func TestWritesRefused(t *testing.T) {
	s := newServer(t)
	held := newTier(t, s.url(), func(o *redis.Options) { o.MaxValue = 100 })
	x, y := newThing(), newThing()
	_, tokens := read(t, held, x)
	writes := append(y.writes(strings.Repeat("y", 101), tokens), x.writes(strings.Repeat("x", 100), tokens)...)
	writes = append(writes, y.writes("no tokens", nil)...)
	if err := held.Write(context.Background(), writes); err == nil {
		t.Error("an entry over the limit and one without tokens were no error")
	}
	want(t, held, x, strings.Repeat("x", 100))
	want(t, held, y, "")
	if _, err := held.Read(context.Background(), []tier.Lookup{{Key: x.key}}); err == nil {
		t.Error("a lookup without generations was no error")
	}
}
