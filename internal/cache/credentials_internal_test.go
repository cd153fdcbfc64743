package cache

import (
	"sync"
	"testing"
	"time"
)

// TestAcceptedMeetsARefusal has an answer to a call of before be noted while the server refuses the credential: the refusal
// holds, in whatever order the two come.
func TestAcceptedMeetsARefusal(t *testing.T) {
	sent := time.Now()
	refused := sent.Add(time.Millisecond)
	for range 40_000 {
		var c credentials
		var both sync.WaitGroup
		both.Go(func() { c.accepted(partition{1}, partition{1}, sent, refused) })
		both.Go(func() { c.refused(partition{1}, partition{1}, refused) })
		both.Wait()
		if c.known(partition{1}, partition{1}, refused) {
			t.Fatal("a refused credential is known")
		}
	}
}

// TestRefusedStaysRefusedOverARestart has partitions that an earlier run saw accepted, of which nobody knows the credential any
// more, and one refusal: none of them is handed on to the next run, unless it was accepted anew.
func TestRefusedStaysRefusedOverARestart(t *testing.T) {
	now := time.Now()
	var c credentials
	c.inherit(map[partition]time.Time{{1}: now.Add(-time.Minute), {2}: now.Add(-time.Minute), {3}: now.Add(-time.Minute)})
	if n := len(c.all()); n != 3 {
		t.Fatalf("%d are handed on, want 3", n)
	}
	c.refused(partition{1}, partition{9}, now)
	c.accepted(partition{3}, partition{8}, now.Add(time.Second), now.Add(time.Second))
	var next credentials
	next.inherit(c.all())
	for p, want := range map[partition]bool{{1}: false, {2}: false, {3}: true} {
		if got := next.known(p, partition{9}, now.Add(2*time.Second)); got != want {
			t.Errorf("partition %d is known: %t, want %t", p[0], got, want)
		}
	}
}
