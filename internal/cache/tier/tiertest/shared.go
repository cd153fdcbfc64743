package tiertest

import (
	"slices"
	"sync"
	"testing"

	"fluentd-perf/internal/cache/tier"
)

// RunShared runs the contract of tiers that several daemons share. open returns another daemon's tier on the same server
// and in the same namespace each time; l receives what is bumped. RunShared closes what open returned.
func RunShared(t *testing.T, open func(t *testing.T, l tier.Listener) tier.Tier) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, a, b *daemon)
	}{
		{"tokens are the same for all", sharedTokens},
		{"entries of one are the other's", sharedEntries},
		{"a bump holds for all at once", sharedBump},
		{"a late write of the other is left out", sharedLateWrite},
		{"first writes of both", sharedFirstWrites},
		{"a bump is received by the other alone", sharedReceived},
		{"many bumps are received", sharedReceivedMany},
		{"bumps of both at once", sharedStorm},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := newDaemon(t, open), newDaemon(t, open)
			test.run(t, a, b)
			for _, d := range []*daemon{a, b} {
				if lost := d.received.losses(); lost != 0 {
					t.Errorf("Lost was called %d times on a link that held", lost)
				}
			}
		})
	}
}

// daemon is one tier with what its listener received.
type daemon struct {
	*world
	received *received
}

func newDaemon(t *testing.T, open func(t *testing.T, l tier.Listener) tier.Tier) *daemon {
	e := &received{bumps: map[tier.Generation]int{}}
	return &daemon{world: begin(t, open(t, tier.Listener{Bumped: e.bumped, Lost: e.lose})), received: e}
}

type received struct {
	mu    sync.Mutex // guards the following
	bumps map[tier.Generation]int
	lost  int
}

func (e *received) bumped(generations []tier.Generation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, g := range generations {
		e.bumps[g]++
	}
}

func (e *received) lose() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost++
}

func (e *received) has(g tier.Generation) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bumps[g] > 0
}

func (e *received) losses() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}

// attend waits until all of them receive what d bumps.
func (d *daemon) attend(all ...*daemon) {
	for _, other := range all {
		eventually(d.T, "the listener listens", func() bool {
			g := newGeneration()
			d.bump(g)
			return other.received.has(g)
		})
	}
}

func sharedTokens(t *testing.T, a, b *daemon) {
	e := newEntry(tier.MaxGuards)
	if x, y := a.readOne(e).Tokens, b.readOne(e).Tokens; !slices.Equal(x, y) {
		t.Fatalf("tokens %v and %v", x, y)
	}
	// Both ask for the tokens of the same generations at once.
	for range 20 {
		e, answers, group := newEntry(tier.MaxGuards), [2][]tier.Token{}, sync.WaitGroup{}
		for i, d := range []*daemon{a, b} {
			group.Go(func() {
				if found, err := d.tier.Read(d.ctx, []tier.Lookup{e.lookup()}); err != nil {
					t.Error(err)
				} else {
					answers[i] = found[0].Tokens
				}
			})
		}
		group.Wait()
		if !slices.Equal(answers[0], answers[1]) {
			t.Fatalf("tokens read at once: %v and %v", answers[0], answers[1])
		}
	}
}

func sharedEntries(_ *testing.T, a, b *daemon) {
	for _, value := range [][]byte{{}, []byte("from one"), make([]byte, 100_000)} {
		e := newEntry(2)
		a.store(e, value)
		b.wantValue(e, value)
		b.store(e, []byte("from the other"))
		a.wantValue(e, []byte("from the other"))
		if err := b.tier.Delete(b.ctx, []tier.Key{e.key}); err != nil {
			b.Fatal(err)
		}
		a.wantValue(e, nil)
	}
}

func sharedBump(t *testing.T, a, b *daemon) {
	for i := range 20 {
		e := newEntry(2)
		a.store(e, []byte("old"))
		b.wantValue(e, []byte("old"))
		b.bump(e.generations[i%2])
		a.wantValue(e, nil) // at once, not when the listener has received it
		b.wantValue(e, nil)
		if x, y := a.readOne(e).Tokens, b.readOne(e).Tokens; !slices.Equal(x, y) {
			t.Fatalf("tokens after a bump: %v and %v", x, y)
		}
	}
}

func sharedLateWrite(_ *testing.T, a, b *daemon) {
	for _, written := range []bool{false, true} {
		e := newEntry(2)
		old := a.readOne(e).Tokens
		if written {
			b.store(e, []byte("first"))
		}
		b.bump(e.generations[1])
		a.write(e.with([]byte("late"), old))
		a.wantValue(e, nil)
		b.wantValue(e, nil)
	}
}

// sharedFirstWrites has both write the first entries under a generation, each under what it read before the other wrote.
func sharedFirstWrites(_ *testing.T, a, b *daemon) {
	x, y := newEntry(1), newEntry(1)
	y.generations = x.generations
	under, same := a.readOne(x).Tokens, b.readOne(y).Tokens
	a.write(x.with([]byte("x"), under))
	b.write(y.with([]byte("y"), same))
	for _, d := range []*daemon{a, b} {
		d.wantValue(x, []byte("x"))
		d.wantValue(y, []byte("y"))
	}
}

func sharedReceived(t *testing.T, a, b *daemon) {
	a.attend(b)
	b.attend(a)
	g, own, last := newGeneration(), newGeneration(), newGeneration()
	a.bump(g)
	b.bump(own)
	eventually(t, "each receives the other's bump", func() bool { return a.received.has(own) && b.received.has(g) })
	b.bump(last)
	eventually(t, "what came before has been received", func() bool { return a.received.has(last) })
	if a.received.has(g) || b.received.has(own) {
		t.Error("a daemon's own bump came back to it")
	}
}

func sharedReceivedMany(t *testing.T, a, b *daemon) {
	a.attend(b)
	generations := make([]tier.Generation, 1500)
	for i := range generations {
		generations[i] = newGeneration()
	}
	a.bump(generations...)
	eventually(t, "every one of many generations is received", func() bool {
		return !slices.ContainsFunc(generations, func(g tier.Generation) bool { return !b.received.has(g) })
	})
}

// fills reads the tokens of all entries and makes their writes.
func (d *daemon) fills(entries []entry) []tier.Write {
	lookups := make([]tier.Lookup, len(entries))
	for i, e := range entries {
		lookups[i] = e.lookup()
	}
	found, err := d.tier.Read(d.ctx, lookups)
	if err != nil {
		d.Errorf("Read: %v", err)
		return nil
	}
	writes := make([]tier.Write, len(entries))
	for i, e := range entries {
		writes[i] = e.with([]byte("x"), found[i].Tokens)
	}
	return writes
}

// sharedStorm has both bump and write the same things at once: no call may fail, and they agree in the end.
func sharedStorm(t *testing.T, a, b *daemon) {
	entries := make([]entry, 40)
	for i := range entries {
		entries[i] = newEntry(2)
	}
	var group sync.WaitGroup
	for i, d := range []*daemon{a, b, a, b} {
		group.Go(func() {
			for round := range 15 {
				var mine []entry
				var generations []tier.Generation
				for j := range entries {
					e := entries[(j*(1+2*i)+round)%len(entries)] // each in an order of its own
					mine = append(mine, e)
					generations = append(generations, e.generations...)
				}
				writes := d.fills(mine)
				if err := d.tier.Write(d.ctx, writes); err != nil {
					t.Errorf("Write: %v", err)
				}
				if err := d.tier.Bump(d.ctx, generations); err != nil {
					t.Errorf("Bump: %v", err)
				}
			}
		})
	}
	group.Wait()
	for _, e := range entries {
		a.store(e, []byte("calm"))
		b.wantValue(e, []byte("calm"))
	}
}
