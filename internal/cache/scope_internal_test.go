package cache

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// TestForgottenViews: a view that is forgotten since there are too many is shared by nobody who still holds it.
func TestForgottenViews(t *testing.T) {
	var v views
	held := make(map[tier.Key]*view)
	observe := func(one *view) {
		for range equalAfterward + 1 {
			v.observe(one, observation{history: new(history), tokens: make([]tier.Token, 2)}, time.Now())
		}
	}
	for i := range maxViews + 10 {
		k := tier.Key{byte(i), byte(i >> 8)}
		held[k] = v.of(k)
		observe(held[k])
	}
	forgotten := 0
	for k, one := range held {
		if v.by[k] == one {
			continue
		}
		forgotten++
		if one.learned.Load() {
			t.Fatal("it is shared")
		}
		if observe(one); one.learned.Load() {
			t.Fatal("it is learned")
		}
		v.observe(one, observation{result: []byte("x"), history: new(history), tokens: make([]tier.Token, 2)}, time.Time{})
		if observe(one); one.learned.Load() {
			t.Fatal("it is learned after a difference")
		}
	}
	if forgotten != 10 || len(v.by) != maxViews {
		t.Errorf("%d are forgotten of %d", forgotten, len(held))
	}
}
