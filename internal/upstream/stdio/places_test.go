package stdio

import (
	"crypto/sha256"
	"strconv"
	"testing"
)

// TestPlacesBound holds that so many states and tasks are remembered, those that came last; one that comes again takes no room.
func TestPlacesBound(t *testing.T) {
	var p places
	key := func(n int) [32]byte { return sha256.Sum256([]byte(strconv.Itoa(n))) }
	one, two := new(calls), new(calls)
	const more = 7
	for n := range maxPlaces + more {
		p.put(key(n), one)
		p.put(key(n), two)
	}
	if len(p.by) != maxPlaces || len(p.order) != maxPlaces {
		t.Errorf("%d are remembered, %d in order", len(p.by), len(p.order))
	}
	for n := range maxPlaces + more {
		if at, known := p.by[key(n)]; known != (n >= more) || known && at != two {
			t.Fatalf("%d is known: %v", n, known)
		}
	}
}
