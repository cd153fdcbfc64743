package cache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// before is what an agent may rely on when it asks.
type before struct {
	at       time.Time
	serial   int64
	private  int64 // the serials from before which nothing may be given, of each scope
	public   int64
	copies   int64 // of what another daemon asked for, while the link is down
	refused  int64
	failures int
}

// observe is what is true before a read.
func (w *pastWorld) observe(d *pastDaemon, who, what string) (b before) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b = before{at: time.Now(), serial: w.serial, failures: d.failures, refused: d.refused[who]}
	b.public = w.floorLocked(d, who, what, true, b.at.Add(time.Hour))
	b.private = w.floorLocked(d, who, what, false, b.at.Add(time.Hour))
	if !d.up.Load() {
		for _, name := range guards(what, who, true) {
			b.copies = max(b.copies, w.tierOld[name])
		}
	}
	return b
}

func (w *pastWorld) floorLocked(d *pastDaemon, who, what string, public bool, until time.Time) (serial int64) {
	for _, name := range guards(what, who, public) {
		serial = max(serial, w.lastLocked(d, name, until))
	}
	return serial
}

// read asks one thing and checks the answer against what has happened.
func (w *pastWorld) read(ctx context.Context, d *pastDaemon, who, what string) {
	b := w.observe(d, who, what)
	told := d.askFor(ctx, who, what)
	now := time.Now()
	if told.err != nil || told.status != 200 {
		w.checkFailure(ctx, d, b, who, told)
		return
	}
	if told.from() == "stale-revalidating" {
		<-time.After(time.Millisecond) // the call that goes on may just be beginning
	}
	a, err := parsePast(told.says)
	if err != nil {
		w.tb.Errorf("%s of %s: %v", what, who, err)
		return
	}
	if w.plain {
		w.checkUntouched(&a, &told)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[told.from()]++
	complain := func(format string, args ...any) {
		w.tb.Errorf("daemon %d, %s of %s, asked at %v, answered at %v by %q with %+v: %s", d.n, what, who,
			b.at.UnixMilli(), now.UnixMilli(), told.cache, a, fmt.Sprintf(format, args...))
	}
	if a.thing != what || !a.public && a.who != who {
		complain("it is another principal's")
	}
	if told.untie && a.serial <= b.serial {
		complain("a loose answer was given again")
	}
	w.checkOldLocked(d, b, a, who, complain)
	if strings.HasPrefix(told.from(), "stale-") {
		w.checkStaleLocked(d, b, a, now, who, what, told, complain)
	} else {
		w.checkFresh(b, a, now, told, complain)
	}
}

// readLoosely asks in a way that is not all as it should be: only the server answers that.
func (w *pastWorld) readLoosely(d *pastDaemon, who, what string) {
	if w.plain {
		return
	}
	b := w.observe(d, who, what)
	told := d.ask(who, "loose "+what)
	if told.err != nil || told.status != 200 {
		w.checkFailure(context.Background(), d, b, who, told)
		return
	}
	a, err := parsePast(told.says)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen["loose"]++
	if err != nil || a.thing != what || a.who != who || a.daemon != d.n || a.serial <= b.serial || told.from() != "fwd=bypass" {
		w.tb.Errorf("a loose request for %s of %s was answered %+v, %v", what, who, told, err)
	}
}

// checkFailure checks an answer of the server's that is none: it was in trouble, refused the credential, or the agent left.
func (w *pastWorld) checkFailure(ctx context.Context, d *pastDaemon, b before, who string, told rigTold) {
	w.mu.Lock()
	failed := d.failures > b.failures
	w.mu.Unlock()
	switch {
	case told.err == nil && told.status == 401:
		w.noted(d, who, b.serial)
	case told.err != nil && told.err.Reason == mcp.ReasonCanceled && ctx.Err() != nil:
	case told.err != nil && told.err.Code == mcp.CodeBadGateway && failed:
	default:
		w.tb.Errorf("told %+v", told)
	}
}

// checkOldLocked checks that nothing comes from before what the daemon had been told when it was asked.
func (w *pastWorld) checkOldLocked(d *pastDaemon, b before, a pastAnswer, who string, complain func(string, ...any)) {
	floor := b.private
	if a.public {
		floor = b.public
	}
	if a.serial <= floor {
		complain("it was old since serial %d", floor)
	}
	if a.daemon != d.n && a.serial <= b.copies {
		complain("a copy that was old in the tier since serial %d", b.copies)
	}
	if at := d.accepted[who].at; a.public && b.at.Sub(at) >= 10*time.Minute {
		complain("the server has never accepted the credential, or long ago")
	}
	if b.refused > 0 && d.refused[who] == b.refused && a.serial <= b.refused {
		complain("the server has refused the credential since serial %d", b.refused)
	}
}

// checkUntouched checks that an answer of a server without MCP is as it was, whatever it says of times and scopes, and leaves
// what holds for answers that say nothing of them: they are the principal's alone.
func (w *pastWorld) checkUntouched(a *pastAnswer, told *rigTold) {
	if told.ttl != a.ttl.Milliseconds() {
		w.tb.Errorf("ttlMs %d, and the server said %v", told.ttl, a.ttl)
	}
	a.ttl, a.public, told.ttl = 0, false, 0
}

// checkFresh checks that the answer's time was not over, and that no more is said to be left than was.
func (w *pastWorld) checkFresh(b before, a pastAnswer, now time.Time, told rigTold, complain func(string, ...any)) {
	ttl := w.life(a)
	if !b.at.Before(a.at.Add(ttl)) {
		complain("it was too old by %v", b.at.Sub(a.at.Add(ttl)))
	}
	most, least := a.ttl-max(0, b.at.Sub(a.at)), a.ttl-now.Sub(a.at)
	if left := time.Duration(told.ttl) * time.Millisecond; left > max(0, most) || left < max(0, least) {
		complain("ttlMs %d, and %v to %v were left", told.ttl, least, most)
	}
}

// life is how long an answer is fresh.
func (w *pastWorld) life(a pastAnswer) time.Duration {
	if w.plain {
		method, _, _ := strings.Cut(a.thing, " ")
		return pastNamed[method]
	}
	if familyOf(a.thing) == "family resources/read" {
		return w.options().TTL["resources/read"]
	}
	return a.ttl
}

// checkStaleLocked checks an expired answer: within its life, not across what became old, and only for trouble.
func (w *pastWorld) checkStaleLocked(
	d *pastDaemon, b before, a pastAnswer, now time.Time, who, what string, told rigTold, complain func(string, ...any),
) {
	ttl := w.life(a)
	if !b.at.Before(a.at.Add(ttl + min(10*ttl, pastStale))) {
		complain("its time as an expired one was over")
	}
	if floor := w.floorLocked(d, who, what, a.public, now); a.serial <= floor {
		complain("while the server was asked it became old, since serial %d", floor)
	}
	if told.ttl != 0 {
		complain("ttlMs %d", told.ttl)
	}
	switch from := told.from(); {
	case from == "stale-error" && d.failures > b.failures:
	case from == "stale-slow" && now.Sub(b.at) >= pastAfter:
	case from == "stale-slow" && w.askingLocked(d, what, now.Add(-pastAfter)): // by a flight that this call has joined
	case from == "stale-revalidating" && w.askingLocked(d, what, b.at):
	default:
		complain("nothing was wrong")
	}
}

// askingLocked reports whether the server was being asked for a thing at that time or later.
func (w *pastWorld) askingLocked(d *pastDaemon, what string, at time.Time) bool {
	for _, who := range pastPrincipals {
		if d.asking[who+what] > 0 || !d.answered[who+what].Before(at) {
			return true
		}
	}
	return false
}

// step is one thing that somebody does.
func (w *pastWorld) step(random *rand.Rand) {
	d := w.daemons[random.IntN(len(w.daemons))]
	who, what := pastPrincipals[random.IntN(len(pastPrincipals))], w.asks[random.IntN(len(w.asks))]
	ctx := context.Background()
	if random.IntN(20) == 0 {
		short, leave := context.WithTimeout(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
		defer leave()
		ctx = short
	}
	switch n := random.IntN(100); {
	case n < 77:
		w.read(ctx, d, who, what)
	case n < 80:
		w.readLoosely(d, who, what)
	case n < 82:
		w.flood(d, random)
	case n < 90:
		w.change(d, what, time.Duration(random.IntN(50))*time.Millisecond)
	case n < 93:
		w.purge(d, what)
	case n < 96:
		w.write(d, who, random)
	default:
		w.refuse(d, who)
	}
}

// change changes a thing, of which the daemon is told a little later.
func (w *pastWorld) change(d *pastDaemon, what string, later time.Duration) {
	w.mu.Lock()
	thing := w.things[what]
	thing.ttl, thing.public = w.some(time.Second, 9*time.Second), w.random.IntN(2) == 0
	w.mu.Unlock()
	<-time.After(later)
	serial, name := w.now(), familyOf(what)
	switch name {
	case "family tools/list":
		d.notify(rigTools, "")
	case "family prompts/list":
		d.notify("notifications/prompts/list_changed", "")
	case "family resources/list":
		d.notify(rigResources, "")
	case "family resources/read":
		uri := what[len("resources/read "):]
		d.notify(rigUpdated, uri)
		name = "uri " + uri
	default:
		w.purge(d, what)
		return
	}
	w.outdate(d, name, serial)
}

// flood has memory throw out what it holds.
func (w *pastWorld) flood(d *pastDaemon, random *rand.Rand) {
	method := "resources/read "
	if w.plain {
		method = "getBlock "
	}
	for range 16 {
		res, err := d.front.Call(context.Background(), rigCall("flood", fmt.Sprint(method, random.Uint64()), 1))
		if err != nil {
			w.tb.Error(err)
			continue
		}
		_ = res.Close()
	}
}

func (w *pastWorld) purge(d *pastDaemon, what string) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	serial := w.now()
	_, method, _ := strings.Cut(familyOf(what), " ")
	if _, _, err := d.store.Purge(ctx, "docs", method); err != nil {
		w.tb.Error(err)
	}
	w.outdate(d, familyOf(what), serial)
}

// write is a tools/call, or what may be one, after which the agent reads its writes.
func (w *pastWorld) write(d *pastDaemon, who string, random *rand.Rand) {
	what := []string{"tools/call write", "loose tools/call write", "opaque"}[random.IntN(3)]
	if told := d.ask(who, what); told.status == 200 {
		serial, err := strconv.ParseInt(told.says, 10, 64)
		if err != nil {
			w.tb.Error(err)
		}
		w.outdate(d, "writes "+who, serial)
	}
}

// refuse has the server refuse a credential for a while.
func (w *pastWorld) refuse(d *pastDaemon, who string) {
	w.mu.Lock()
	w.denied[who] = true
	w.mu.Unlock()
	serial := w.now()
	if told := d.ask(who, "tools/call whoami"); told.status == 401 {
		w.noted(d, who, serial)
	}
	w.mu.Lock()
	delete(w.denied, who)
	w.mu.Unlock()
}

// weather changes how tiers and the server are, until ctx ends.
func (w *pastWorld) weather(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		w.failing = w.chance(20)
		w.slow = []time.Duration{0, 0, 20 * time.Millisecond, 300 * time.Millisecond}[w.random.IntN(4)]
		wait := w.some(100*time.Millisecond, 5*time.Second)
		w.mu.Unlock()
		for _, d := range w.daemons {
			for _, tier := range d.tiers {
				w.moody(tier)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	for _, d := range w.daemons {
		for _, tier := range d.tiers {
			tier.set(func() { tier.fate = nil })
		}
	}
}

// moody gives a tier another mind: mostly it works.
func (w *pastWorld) moody(tier *rigTier) {
	w.mu.Lock()
	bad, seed := []int{0, 0, 10, 50, 100}[w.random.IntN(5)], w.random.Uint64()
	w.mu.Unlock()
	random := rand.New(rand.NewPCG(seed, 0))
	tier.set(func() {
		tier.fate = func(op rigOp, _ int) rigFate {
			if random.IntN(100) >= bad {
				return rigWorks
			}
			fate := []rigFate{rigFails, rigMutes, rigHangs, rigDelays, rigLoses}[random.IntN(5)]
			if fate == rigLoses && op.name != "write" {
				return rigFails
			}
			return fate
		}
	})
}

// post delivers messages, and cuts and mends links, until ctx ends.
func (w *pastWorld) post(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		wait, cut, n := w.some(time.Millisecond, 2*time.Second), w.chance(15), w.random.IntN(len(w.daemons))
		notices, down := w.some(0, 3*time.Second), w.some(time.Second, 8*time.Second)
		w.mu.Unlock()
		<-time.After(wait)
		if cut {
			d := w.daemons[n]
			w.cut(d, notices)
			<-time.After(down)
			w.restore(d)
		}
		w.deliver(false)
	}
	w.deliver(true)
}

// round has many agents do many things at once, and ends when all have done theirs.
func (w *pastWorld) round(seed uint64, agents, steps int) {
	ctx, end := context.WithCancel(context.Background())
	var around, group sync.WaitGroup
	around.Go(func() { w.weather(ctx) })
	if len(w.daemons) > 1 {
		around.Go(func() { w.post(ctx) })
	}
	for i := range agents {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() {
			for range steps {
				w.step(random)
				<-time.After(time.Duration(random.IntN(600)) * time.Millisecond)
			}
		})
	}
	group.Wait()
	end()
	around.Wait()
}

// wantSeen checks that answers came from everywhere: else the test proves little.
func (w *pastWorld) wantSeen(from ...string) {
	w.tb.Logf("answers by %v", w.seen)
	for _, f := range from {
		if w.seen[f] == 0 {
			w.tb.Errorf("no answer came by %q", f)
		}
	}
}

const (
	pastRounds = 16
	pastAgents = 6
	pastSteps  = 50
)

// pastSeed is printed, so that a run can be had again as far as the scheduler lets it.
func pastSeed(t *testing.T) uint64 {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return seed
}

// TestNothingStaleIsServed has one daemon over memory, a tier and a file, in all weathers, stopped and killed in between.
func TestNothingStaleIsServed(t *testing.T) {
	t.Run("MCP", func(t *testing.T) { nothingOldOfOne(t, false) })
	t.Run("plain", func(t *testing.T) { nothingOldOfOne(t, true) })
}

func nothingOldOfOne(t *testing.T, plain bool) {
	seed, dir := pastSeed(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newPastWorld(t, plain, seed)
		d := newPastDaemon(0)
		w.daemons = []*pastDaemon{d}
		disks := []*rigDisk{newRigDisk(), newRigDisk()}
		for i := range pastRounds {
			state, err := cache.OpenState(dir, pastKey)
			if err != nil {
				t.Fatal(err)
			}
			d.tiers = []*rigTier{newRigTier("redis", disks[0]), newRigTier("database", disks[1])}
			w.start(d, state, slow(rigFile{d.tiers[0]}), slow(rigFile{d.tiers[1]}))
			w.round(seed+uint64(i), pastAgents, pastSteps)
			if killed := i%3 == 2; killed {
				w.kill(d, dir, state)
				continue
			}
			d.close(time.Second)
			if err := state.Close(); err != nil {
				t.Fatal(err)
			}
		}
		w.wantSeen("memory", "redis", "database", "fwd=miss stored", "stale-error")
		if !plain {
			w.wantSeen("loose")
		}
	})
}

// TestNothingStaleIsServedByTwo has two daemons over one tier. What one has been told holds for it
// at once, and for the other when the message is there, or was lost and that has been said. Links are cut and daemons are
// stopped and started.
func TestNothingStaleIsServedByTwo(t *testing.T) {
	t.Run("MCP", func(t *testing.T) { nothingOldOfTwo(t, false) })
	t.Run("plain", func(t *testing.T) { nothingOldOfTwo(t, true) })
}

func nothingOldOfTwo(t *testing.T, plain bool) {
	seed, dirs := pastSeed(t), []string{t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		w := newPastWorld(t, plain, seed)
		w.daemons = []*pastDaemon{newPastDaemon(0), newPastDaemon(1)}
		states := make([]*cache.State, len(dirs))
		shared := newRigDisk()
		begin := func(n int) {
			state, err := cache.OpenState(dirs[n], pastKey)
			if err != nil {
				t.Fatal(err)
			}
			d := w.daemons[n]
			states[n] = state
			w.join(d, state, shared)
		}
		finish := func(n int) {
			w.daemons[n].subscribed.Store(false)
			w.daemons[n].close(time.Second)
			if err := states[n].Close(); err != nil {
				t.Fatal(err)
			}
		}
		begin(0)
		begin(1)
		for i := range pastRounds {
			w.round(seed+uint64(i), pastAgents, pastSteps)
			if n := i % 3; n < 2 {
				finish(n)
				after(time.Duration(i) * 100 * time.Millisecond)
				begin(n)
			}
		}
		finish(0)
		finish(1)
		w.wantSeen("memory", "redis", "fwd=miss stored", "stale-error")
		if !plain {
			w.wantSeen("loose")
		}
	})
}
