package scenario

import "testing"

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
