package tiertest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/cache/tier"
)

const (
	stormKeys   = 12
	stormRounds = 150
)

// history is what a storm has done so far. A token is dead from the moment at which the bump that replaced it returned;
// it was seen before that bump began, so that it cannot be the bump's own.
type history struct {
	clock atomic.Int64 // counts bumps that returned
	hits  atomic.Int64

	mu   sync.Mutex // guards the following
	seen map[tier.Generation]map[tier.Token]bool
	dead map[tier.Token]int64 // the clock when it died
}

// read looks one entry up and checks the answer against the bumps that had returned when it was asked.
func (h *history) read(w *world, e entry) (tier.Found, bool) {
	asked := h.clock.Load()
	found, err := w.tier.Read(w.ctx, []tier.Lookup{e.lookup()})
	if err != nil {
		w.Errorf("Read: %v", err)
		return tier.Found{}, false
	}
	f := found[0]
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, token := range f.Tokens {
		if died, ok := h.dead[token]; ok && died <= asked {
			w.Errorf("answered token %d, which bump %d had replaced, after bump %d", token, died, asked)
		}
		if h.seen[e.generations[i]] == nil {
			h.seen[e.generations[i]] = map[tier.Token]bool{}
		}
		h.seen[e.generations[i]][token] = true
	}
	if f.Value != nil {
		h.hits.Add(1)
		h.checkLocked(w, e, f, asked)
	}
	return f, true
}

// checkLocked reads a value, which says of itself under which tokens it was written.
func (h *history) checkLocked(w *world, e entry, f tier.Found, asked int64) {
	if !bytes.HasPrefix(f.Value, stormValue(e, f.Tokens)) {
		w.Errorf("%s was not written under the tokens that it is answered with", brief(f.Value))
	}
	for _, token := range f.Tokens {
		if died, ok := h.dead[token]; ok && died <= asked {
			w.Errorf("answered a value from before bump %d, after bump %d", died, asked)
		}
	}
}

func (h *history) bump(w *world, generations []tier.Generation) {
	h.mu.Lock()
	var old []tier.Token
	for _, g := range generations {
		for token := range h.seen[g] {
			old = append(old, token)
		}
	}
	h.mu.Unlock()
	if err := w.tier.Bump(w.ctx, generations); err != nil {
		w.Errorf("Bump: %v", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock.Load() + 1
	for _, token := range old {
		if h.dead[token] == 0 {
			h.dead[token] = now
		}
	}
	h.clock.Store(now)
}

func stormValue(e entry, tokens []tier.Token) []byte {
	return fmt.Appendf(nil, "%x %x", e.key, tokens)
}

// storm has many read, write, bump and delete at once. No read may answer what a bump had ended before the read began,
// nor a value under other tokens than its own.
func storm(w *world) {
	h := &history{seen: map[tier.Generation]map[tier.Token]bool{}, dead: map[tier.Token]int64{}}
	shared := []tier.Generation{newGeneration(), newGeneration(), newGeneration()}
	entries := make([]entry, stormKeys)
	for i := range entries {
		entries[i] = newEntry(1 + i%2)
		entries[i].generations[0] = shared[i%len(shared)]
	}
	pick := func() entry { return entries[rand.IntN(len(entries))] }
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for i := range stormRounds {
				if f, ok := h.read(w, pick()); !ok || w.ctx.Err() != nil {
					return
				} else if worker%2 == 0 && f.Value == nil {
					h.fill(w, pick(), i)
				}
			}
		})
	}
	for range 2 {
		group.Go(func() {
			for range stormRounds / 5 {
				e := pick()
				h.bump(w, e.generations[rand.IntN(len(e.generations)):])
				h.read(w, e)
				if err := w.tier.Delete(w.ctx, []tier.Key{pick().key}); err != nil {
					w.Errorf("Delete: %v", err)
				}
			}
		})
	}
	group.Wait()
	if h.hits.Load() == 0 {
		w.Error("a storm without a hit proves nothing")
	}
	for _, e := range entries { // and it works as before
		w.store(e, []byte("calm"))
		w.wantValue(e, []byte("calm"))
	}
}

// fill does what a miss does: the tokens first, the value some time later.
func (h *history) fill(w *world, e entry, round int) {
	f, ok := h.read(w, e)
	if !ok {
		return
	}
	if round%3 == 0 {
		h.read(w, e) // the server takes its time
	}
	value := append(stormValue(e, f.Tokens), bytes.Repeat([]byte{' '}, round*20)...)
	if err := w.tier.Write(w.ctx, []tier.Write{e.with(value, f.Tokens)}); err != nil {
		w.Errorf("Write: %v", err)
	}
}
