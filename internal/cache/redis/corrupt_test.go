package redis_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier"
)

// TestCorrupted puts things in the place of a value: each is a miss and gone, and the next write is a hit.
func TestCorrupted(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url(), func(o *redis.Options) { o.MaxValue = 1000 })
	x := newThing()
	store(t, rt, x, "the value")
	key := s.onlyKey("fluentd-perf:2:test:v:*")
	good := s.do("GET", key).(string)
	for name, corrupt := range map[string]func(){
		"garbage":          func() { s.do("SET", key, "garbage") },
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
			want(t, rt, x, "the value")
			corrupt()
			want(t, rt, x, "")
			if n := s.do("EXISTS", key); n != int64(0) {
				t.Error("it is still there")
			}
			store(t, rt, x, "the value again")
			want(t, rt, x, "the value again")
		})
	}
}

// TestCorruptedElsewhere copies an entry to the name of another.
func TestCorruptedElsewhere(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url())
	x, y := newThing(), newThing()
	y.gen = x.gen
	store(t, rt, x, "of x")
	from := s.onlyKey("fluentd-perf:2:test:v:*")
	store(t, rt, y, "of y")
	for _, to := range s.keys("fluentd-perf:2:test:v:*") {
		if to != from {
			s.do("COPY", from, to, "REPLACE")
		}
	}
	want(t, rt, x, "of x")
	want(t, rt, y, "")
}

// TestCorruptedTokens puts things in the place of a token, and of its slot. Where another token is there the entry is a miss.
// Where the token has gone, as by an eviction, nothing was bumped: the entry holds until its slot's number goes as well.
// Tokens work again at once.
func TestCorruptedTokens(t *testing.T) {
	const slots = "fluentd-perf:2:test:s"
	s := newServer(t)
	rt := newTier(t, s.url())
	for name, test := range map[string]struct {
		corrupt func(key string)
		holds   bool
	}{
		"gone":         {func(key string) { s.do("DEL", key) }, true},
		"empty":        {func(key string) { s.do("SET", key, "") }, true},
		"a hash":       {func(key string) { s.do("DEL", key); s.do("HSET", key, "a", "b") }, true},
		"another":      {func(key string) { s.do("SET", key, "another") }, false},
		"too large":    {func(key string) { s.do("SETRANGE", key, 5_000_000, "!") }, false},
		"both gone":    {func(key string) { s.do("DEL", key, slots) }, false},
		"slots gone":   {func(string) { s.do("DEL", slots) }, true},
		"slots a text": {func(key string) { s.do("DEL", key, slots); s.do("SET", slots, "text") }, false},
		"slots malformed": {func(key string) {
			s.do("DEL", key)
			for _, field := range s.do("HKEYS", slots).([]any) {
				s.do("HSET", slots, field, "malformed")
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s.do("FLUSHALL")
			x := newThing()
			old := store(t, rt, x, "the value")
			test.corrupt(s.onlyKey("fluentd-perf:2:test:g:*"))
			want(t, rt, x, map[bool]string{true: "the value"}[test.holds])
			if !test.holds {
				if err := rt.Write(context.Background(), x.writes("late", old)); err != nil {
					t.Fatal(err)
				}
				want(t, rt, x, "")
			}
			store(t, rt, x, "anew")
			want(t, rt, x, "anew")
			bump(t, rt, x)
			want(t, rt, x, "")
			store(t, rt, x, "last")
			want(t, rt, x, "last")
		})
	}
}

// TestForgotten flushes what the server knows, data and scripts, in the middle of the work.
func TestForgotten(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url())
	x := newThing()
	old := store(t, rt, x, "the value")
	s.do("FLUSHALL")
	s.do("SCRIPT", "FLUSH")
	if err := rt.Write(context.Background(), x.writes("late", old)); err != nil {
		t.Fatal(err)
	}
	want(t, rt, x, "")
	store(t, rt, x, "anew")
	s.do("SCRIPT", "FLUSH")
	want(t, rt, x, "anew")
}

// TestLives looks at how long things stay on the server.
func TestLives(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url())
	x := newThing()
	_, tokens := read(t, rt, x)
	w := x.writes("the value", tokens)
	w[0].Expires = time.Now().Add(1000 * time.Hour)
	if err := rt.Write(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	want(t, rt, x, "the value")
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
	store(t, rt, x, "again")
	within(value, 3600*1000)
	within(token, day)
	bump(t, rt, x)
	if n := len(s.keys("*:g:*")); n != 0 {
		t.Errorf("%d tokens are left after a bump", n)
	}
}

// TestPrefixes gives two daemons with different partition keys one server.
func TestPrefixes(t *testing.T) {
	s := newServer(t)
	rb := newRecorder()
	a := newTier(t, s.url(), func(o *redis.Options) { o.Prefix = "a" })
	b := newTier(t, s.url(), func(o *redis.Options) { o.Prefix = "b" }, rb.listen)
	eventually(t, "the link stands", b.Linked)
	x, y := newThing(), newThing()
	store(t, a, x, "of a")
	store(t, b, x, "of b")
	want(t, a, x, "of a")
	bump(t, a, x)
	want(t, a, x, "")
	want(t, b, x, "of b")
	bump(t, newTier(t, s.url(), func(o *redis.Options) { o.Prefix = "b" }), y)
	eventually(t, "b receives its own prefix", func() bool { return rb.has(y.gen) })
	if rb.has(x.gen) {
		t.Error("b receives a")
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
	rt := newTier(t, s.url(), func(o *redis.Options) { o.MaxValue = 100 })
	x, y := newThing(), newThing()
	_, tokens := read(t, rt, x)
	writes := append(y.writes(strings.Repeat("y", 101), tokens), x.writes(strings.Repeat("x", 100), tokens)...)
	writes = append(writes, y.writes("no tokens", nil)...)
	if err := rt.Write(context.Background(), writes); err == nil {
		t.Error("an entry over the limit and one without tokens were no error")
	}
	want(t, rt, x, strings.Repeat("x", 100))
	want(t, rt, y, "")
	if _, err := rt.Read(context.Background(), []tier.Lookup{{Key: x.key}}); err == nil {
		t.Error("a lookup without generations was no error")
	}
}
