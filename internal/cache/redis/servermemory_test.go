package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"fluentd-perf/internal/cache/tier"
)

// TestReadsLeaveNothing asks for what is not there: the server holds no token of it afterwards, and what it holds at all is
// bounded. With what is stored it holds tokens for that alone, and a bump leaves none.
func TestReadsLeaveNothing(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url())
	lookups := make([]tier.Lookup, 500)
	for range 4 {
		for i := range lookups {
			lookups[i] = newThing().lookups()[0]
		}
		if _, err := rt.Read(context.Background(), lookups); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.do("DBSIZE").(int64); n > 1 {
		t.Errorf("%d keys after 2,000 reads of nothing, want one at most", n)
	}
	x := newThing()
	store(t, rt, x, "stored")
	want(t, rt, x, "stored")
	if v, g := len(s.keys("*:v:*")), len(s.keys("*:g:*")); v != 1 || g != 1 {
		t.Errorf("%d values and %d tokens, want one of each", v, g)
	}
	bump(t, rt, x)
	want(t, rt, x, "")
	if n := len(s.keys("*:g:*")); n != 0 {
		t.Errorf("%d tokens after a bump", n)
	}
}

// TestNoInfo counts what scripts ask the server beside what they are for.
func TestNoInfo(t *testing.T) {
	s := newServer(t)
	rt := newTier(t, s.url())
	x := newThing()
	store(t, rt, x, "stored")
	before := called(s, "info")
	for range 50 {
		want(t, rt, x, "stored")
	}
	store(t, rt, x, "again")
	if n := called(s, "info") - before; n > 1 { // this test's own
		t.Errorf("INFO was called %d times by 52 calls", n)
	}
}

// called is how often the server was sent a command.
func called(s *server, command string) (n int) {
	_, line, _ := strings.Cut(s.do("INFO", "commandstats").(string), "cmdstat_"+command+":calls=")
	_, _ = fmt.Sscanf(line, "%d", &n)
	return n
}
