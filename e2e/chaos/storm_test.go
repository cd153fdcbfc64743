// The order in which servers and tiers are harmed: every kind early, no server twice at once.

package chaos

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// harm is one thing that is done to a server for a while.
type harm struct {
	kind   string
	target string
	begin  func()
	end    func()
}

// The kinds of harm that a faulty server can be told. What is cut and what is refused comes in both forms: nothing was
// done; the work was done and the answer lost.
var spoils = []string{"cut-before", "cut-after", "cut-middle", "busy-before", "busy-after", "slow-before", "slow-after"}

// storm is who does harm, from the test's goroutine.
type storm struct {
	rand   *rand.Rand
	deck   []harm              // what comes next, first; what was done is put at the end
	kinds  int                 // that there are
	active map[string]underway // by target: no server suffers twice at a time
	done   map[string]int      // by kind
}

type underway struct {
	harm
	until time.Time
}

// atATime is how many servers are harmed at once. The others are what agents come back to.
const atATime = 4

// newStorm makes a deck in which kinds take turns, so that a short storm has each, on targets in a random order.
func newStorm(r *rand.Rand, byKind map[string][]harm) *storm {
	s := &storm{rand: r, kinds: len(byKind), active: map[string]underway{}, done: map[string]int{}}
	kinds := slices.Sorted(maps.Keys(byKind))
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	most := 0
	for _, kind := range kinds {
		harms := byKind[kind]
		r.Shuffle(len(harms), func(i, j int) { harms[i], harms[j] = harms[j], harms[i] })
		most = max(most, len(harms))
	}
	for i := range most {
		for _, kind := range kinds {
			if i < len(byKind[kind]) {
				s.deck = append(s.deck, byKind[kind][i])
			}
		}
	}
	return s
}

// run does harm for a while, or longer where the machine is so slow that not each kind was done by then. After it
// everybody has been restarted and healed.
func (s *storm) run(length time.Duration) {
	end := time.Now().Add(length)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for now := time.Now(); now.Before(end) || len(s.done) < s.kinds; now = <-tick.C {
		s.endDue(now)
		s.start()
	}
	s.endDue(time.Now().Add(time.Hour))
}

// endDue ends what is due.
func (s *storm) endDue(now time.Time) {
	for target, u := range s.active {
		if now.After(u.until) {
			u.end()
			delete(s.active, target)
		}
	}
}

// start begins the next harm whose target does not suffer yet, if there are not enough.
func (s *storm) start() {
	if len(s.active) >= atATime {
		return
	}
	next := slices.IndexFunc(s.deck, func(h harm) bool { _, busy := s.active[h.target]; return !busy })
	if next < 0 {
		return
	}
	h := s.deck[next]
	s.deck = append(slices.Delete(s.deck, next, next+1), h)
	h.begin()
	s.done[h.kind]++
	s.active[h.target] = underway{h, time.Now().Add(time.Duration(200+s.rand.IntN(1300)) * time.Millisecond)}
}

// harms are all that may be done to a server.
func (s *faultyServer) harms(r *rand.Rand, u *chaosUpstream, byKind map[string][]harm) {
	kinds := spoils
	switch u.kind {
	case "plain":
		kinds = append([]string{"odd"}, kinds...)
	case "sessions":
		kinds = append([]string{"lose"}, kinds...)
	}
	for _, kind := range kinds {
		byKind[kind] = append(byKind[kind], harm{kind, s.name, func() {
			s.order(kind, []float64{0.2, 0.6, 1}[r.IntN(3)], time.Duration(100+r.IntN(4000))*time.Millisecond)
		}, func() { s.order("", 0, 0) }})
	}
	tierHarms(s.TierServer, s.name, "", byKind)
}

// tierHarms are that a server dies and comes back, and that it hangs: kinds of their own for a tier, so that a short storm has them.
func tierHarms(s *harness.TierServer, name, of string, byKind map[string][]harm) {
	byKind["kill"+of] = append(byKind["kill"+of], harm{"kill" + of, name, s.Kill, s.Restart})
	byKind["hang"+of] = append(byKind["hang"+of], harm{"hang" + of, name, s.Hang, s.Resume})
}

// TestStormDeck holds the storm to have every kind early, and no server twice at once.
func TestStormDeck(t *testing.T) {
	t.Parallel()
	suffering := map[string]bool{}
	byKind := map[string][]harm{}
	for _, kind := range []string{"a", "b", "c"} {
		for _, target := range []string{"x", "y", "z", "u", "v"} {
			byKind[kind] = append(byKind[kind], harm{kind, target, func() {
				if suffering[target] {
					t.Errorf("%s is harmed twice at once", target)
				}
				suffering[target] = true
			}, func() { suffering[target] = false }})
		}
	}
	s := newStorm(rand.New(rand.NewPCG(1, 1)), byKind)
	now, dealt := time.Now(), 0
	for range 1000 {
		now = now.Add(100 * time.Millisecond)
		s.endDue(now)
		s.start()
		if n := len(s.active); n > atATime {
			t.Errorf("%d at a time", n)
		}
	}
	if s.endDue(time.Now().Add(time.Hour)); len(s.active) != 0 {
		t.Errorf("%d go on after the end", len(s.active))
	}
	for kind := range byKind {
		dealt += s.done[kind]
		if s.done[kind] == 0 {
			t.Errorf("%s was never done", kind)
		}
	}
	if dealt < 2*len(s.deck) {
		t.Errorf("%d done of a deck of %d", dealt, len(s.deck))
	}
}
