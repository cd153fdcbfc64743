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
	held := newTier(t, s.url())
	lookups := make([]tier.Lookup, 500)
	for range 4 {
		for i := range lookups {
			lookups[i] = newThing().lookups()[0]
		}
		if _, err := held.Read(context.Background(), lookups); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.do("DBSIZE").(int64); n > 1 {
		t.Errorf("%d keys after 2,000 reads of nothing, want one at most", n)
	}
	x := newThing()
	store(t, held, x, "stored")
	want(t, held, x, "stored")
	if v, g := len(s.keys("*:v:*")), len(s.keys("*:g:*")); v != 1 || g != 1 {
		t.Errorf("%d values and %d tokens, want one of each", v, g)
	}
	bump(t, held, x)
	want(t, held, x, "")
	if n := len(s.keys("*:g:*")); n != 0 {
		t.Errorf("%d tokens after a bump", n)
	}
}

// TestNoInfo counts what scripts ask the server beside what they are for.
func TestNoInfo(t *testing.T) {
	s := newServer(t)
	held := newTier(t, s.url())
	x := newThing()
	store(t, held, x, "stored")
	before := calledInfo(s)
	for range 50 {
		want(t, held, x, "stored")
	}
	store(t, held, x, "again")
	if n := calledInfo(s) - before; n > 1 { // this test's own
		t.Errorf("INFO was called %d times by 52 calls", n)
	}
}

// calledInfo is how often the server was asked for INFO.
func calledInfo(s *server) (n int) {
	_, line, _ := strings.Cut(s.do("INFO", "commandstats").(string), "cmdstat_info:calls=")
	_, _ = fmt.Sscanf(line, "%d", &n)
	return n
}
