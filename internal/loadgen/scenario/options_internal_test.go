package scenario

import (
	"testing"
	"time"
)

// TestLimitedLoad: what is limited has at most two calls at once, and no more than the scenario would have without that.
func TestLimitedLoad(t *testing.T) {
	for concurrency, want := range map[int]int{1: 1, 2: LimitedAtOnce, 32: LimitedAtOnce} {
		o := Options{Limited: true}
		if l := o.load(concurrency, 500); l.Concurrency != want || l.Requests != limitedRequests || l.MaxRate != LimitedRate {
			t.Errorf("of %d at once: %+v, want %d", concurrency, l, want)
		}
	}
	o := Options{Limited: true, Rate: 5}
	if l := o.load(1, 500); l.Concurrency != 1 {
		t.Errorf("an open loop of one: %+v", l)
	}
}

// TestOpenLoad: a round of a slow open loop is over after ten seconds, where nobody said how long it is.
func TestOpenLoad(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want int64
	}{
		{Options{Rate: 10}, 100}, {Options{Rate: 2000}, defaultRequests}, {Options{Rate: 0.01}, 1}, {Options{Rate: 10, Requests: 3000}, 3000},
		{Options{Rate: 10, Duration: time.Second}, 0}, {Options{}, defaultRequests},
	} {
		if l := c.o.load(defaultConcurrency, defaultRequests); l.Requests != c.want {
			t.Errorf("%+v: %+v, want %d calls", c.o, l, c.want)
		}
	}
}
