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
