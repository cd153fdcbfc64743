package cache

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// Where daemons share two tiers, a daemon that changes something may be able to tell one of them and not the other. Whoever
// hears of a change from one tier therefore holds it against the other, as a debt: the other is not read for it. Mostly the
// other is told as well, and the news comes from there, too: that settles the debt. Else the daemon tells the tier itself,
// some time later, and says that it passes on what it heard.
//
// It ends: what was passed on is not passed on again, since the tier that it was heard from knows it already. So a change is
// told to a tier by the daemon that made it, and by each other daemon once at most; where the first one is enough, by nobody
// else. A tier that is told again only loses entries that were still good.

// passAfter is how long a tier is given to be told by whoever made a change, and as long again by chance: so that one of many
// daemons does it for all.
const passAfter = time.Second

// reason is a change for which something is old.
type reason struct {
	change Change
	passed bool // another daemon's, or none that other tiers need to know
}

// maxReasons is how many changes are told one by one of one generation.
const maxReasons = 8

// because adds a reason. Of too many it makes a new one, of which nobody has heard: the tier has to be told.
func because(why []reason, r reason) []reason {
	if len(why) < maxReasons {
		return append(slices.Clip(why), r)
	}
	passed := r.passed && !slices.ContainsFunc(why, func(r reason) bool { return !r.passed })
	return []reason{{newChange(), passed}}
}

// tells reports whether other daemons share the tier and hear from it by name what has changed.
func (t *slowTier) tells() bool {
	_, tells := t.Tier.(Teller)
	return tells && t.Shared
}

// hear holds what another shared tier was told against this one. A debt of this daemon's own is told at once as before, but
// once more, where that is under way: the change may have come after it.
func (t *slowTier) hear(news []News) {
	t.mu.Lock()
	t.round++
	t.makeRoomLocked(len(news))
	due := t.nowLocked().Add(passAfter + rand.N(passAfter))
	for i := range news {
		n := &news[i]
		if n.Passed || n.Change == 0 || !t.told.add(n.Generation, n.Change) {
			continue
		}
		d, ok := t.owed[n.Generation]
		if !ok {
			d.due = due
		}
		d.round, d.why = t.round, because(d.why, reason{n.Change, true})
		t.owed[n.Generation] = d
	}
	t.mu.Unlock()
	t.rouse()
}

// knows notes what this tier itself was told, by whomever: that much of its debts is settled. Each reason has a name of its
// own, so a debt for another change stays.
func (t *slowTier) knows(news []News) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range news {
		n := &news[i]
		if n.Change == 0 {
			continue
		}
		t.told.add(n.Generation, n.Change)
		d, ok := t.owed[n.Generation]
		if !ok {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(d.why), func(r reason) bool { return r.change == n.Change })
		switch {
		case len(left) == len(d.why):
		case len(left) == 0:
			delete(t.owed, n.Generation)
		default:
			d.why = left
			t.owed[n.Generation] = d
		}
	}
}

// tell has the tier make generations old, and say why where it can.
func (t *slowTier) tell(ctx context.Context, generations []Generation, news []News) error {
	if teller, ok := t.Tier.(Teller); ok {
		return teller.Tell(ctx, news)
	}
	return t.Tier.Bump(ctx, generations)
}

// newsOf are some of the debts as news.
func newsOf(owed map[Generation]debt, some []Generation) []News {
	news := make([]News, 0, len(some))
	for _, g := range some {
		for _, r := range owed[g].why {
			news = append(news, News{g, r.change, r.passed})
		}
	}
	return news
}

// putOff is how long until the next debt is due: 0 where one is.
func (t *slowTier) putOff() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, t.putOffLocked())
}

func (t *slowTier) putOffLocked() time.Duration {
	next, now := statsEvery, t.nowLocked()
	for _, d := range t.owed {
		if d.due.IsZero() {
			return 0
		}
		next = min(next, d.due.Sub(now))
	}
	return next
}

// nowLocked is the time by which debts are due: at the end all of them are.
func (t *slowTier) nowLocked() time.Time {
	if t.ending {
		return time.Now().Add(2 * passAfter)
	}
	return time.Now()
}

// rumours remember the latest news. What is forgotten and heard again is told the tier once more than it needs to be.
type rumours struct{ fresh, before map[rumour]struct{} }

type rumour struct {
	generation Generation
	change     Change
}

const maxRumours = 1 << 13 // half of those that are remembered

// add reports whether the news is new.
func (r *rumours) add(g Generation, c Change) bool {
	one := rumour{g, c}
	_, fresh := r.fresh[one]
	_, before := r.before[one]
	if fresh || before {
		return false
	}
	if r.fresh == nil || len(r.fresh) >= maxRumours {
		r.fresh, r.before = make(map[rumour]struct{}), r.fresh
	}
	r.fresh[one] = struct{}{}
	return true
}
