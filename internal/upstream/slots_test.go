package upstream

import "testing"

// A waiter that leaves in the moment in which it is given a slot passes it on: to the next, or back. The moment is too
// short to be met from outside.
func TestLeavingWithASlot(t *testing.T) {
	s := &slots{free: 1}
	first, second := s.queue(), s.queue()
	if !first.has || second.has {
		t.Fatalf("the first has one: %v, the second: %v", first.has, second.has)
	}
	s.leave(first)
	if !second.has {
		t.Error("the slot was lost")
	}
	s.leave(second)
	if !s.tryTake() || s.tryTake() {
		t.Error("there is not exactly one slot again")
	}
}
