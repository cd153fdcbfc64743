package memory

import (
	"testing"

	"fluentd-perf/internal/cache/tier"
)

// TestHeadsOrder holds what comes of a head when others are at the same entry while it is read: that of what is gone is
// never kept. Which of them is first no test through the stages can choose.
func TestHeadsOrder(t *testing.T) {
	const hash = 7
	key := tier.Key{1}
	one, two := &head{key: key, read: true}, &head{key: key, read: true}
	for name, c := range map[string]struct {
		do   func(h *heads)
		want *head
	}{
		"undisturbed":      {func(h *heads) { h.put(hash, h.mark(hash), one) }, one},
		"a mark is none":   {func(h *heads) { h.mark(hash) }, nil},
		"nothing there":    {func(h *heads) { h.put(hash, h.mark(hash), nil) }, nil},
		"forgotten after":  {func(h *heads) { h.put(hash, h.mark(hash), one); h.forget(hash) }, nil},
		"forgotten before": {func(h *heads) { h.forget(hash); h.put(hash, h.mark(hash), one) }, one},
		"replaced while it is read": {func(h *heads) {
			mark := h.mark(hash)
			h.forget(hash)
			h.put(hash, mark, one)
		}, nil},
		"replaced and read by another meanwhile": {func(h *heads) {
			mark := h.mark(hash)
			h.forget(hash)
			h.put(hash, h.mark(hash), two)
			h.put(hash, mark, one)
		}, two},
		"gone, for one who read before another": {func(h *heads) {
			mark := h.mark(hash)
			h.put(hash, h.mark(hash), two)
			h.put(hash, mark, nil)
		}, two},
	} {
		t.Run(name, func(t *testing.T) {
			h := new(heads)
			c.do(h)
			if got := h.get(hash, &key); got != c.want {
				t.Errorf("got %p, want %p (of %p and %p)", got, c.want, one, two)
			}
			if got := h.get(hash, &tier.Key{2}); got != nil {
				t.Error("another key with the same hash has the head")
			}
		})
	}
}

// TestHeadsAreBounded holds how many there are at most, and that the newest is among them.
func TestHeadsAreBounded(t *testing.T) {
	var h heads
	for hash := range uint64(3 * maxHeads) {
		one := &head{read: true}
		h.put(hash, h.mark(hash), one)
		if h.get(hash, new(tier.Key)) != one {
			t.Fatalf("head %d is not there", hash)
		}
	}
	if n := len(h.by); n != maxHeads {
		t.Errorf("%d heads, want %d", n, maxHeads)
	}
}
