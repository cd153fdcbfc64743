package cache

import (
	"context"
	"strings"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// Call answers one call: from memory, or from a flight of equal calls that is under way, or from a tier behind memory, or else
// the server does. It watches everything that passes for what makes entries stale.
//
// Of equal calls the first one goes on as it came, id included, on its own goroutine, and returns no sooner than what is behind
// does, though its ctx has ended and others wait on; a follower fails at once with its ctx. Either fails with the *mcp.Failure
// that is ctx's cause, Sent unknown, or else as ReasonCanceled with code 0. A legacy `notifications/cancelled` goes on as it is.
// Where it names a call that leads a flight, those who follow go by themselves first; where it names one that follows, that
// gets a 202 without a body, as the notification does.
//
// Followers, whose Result is Collapsed, get the status, the body and of the header what is in sharedFields. The leader has its
// own answer as it came, which lives until ctx ends or it is closed.
func (u *Upstream) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	principal := u.store.partition(c)
	u.changes.Touched(principal)
	if u.acted(c) {
		bearer := u.store.bearer(c)
		u.shownAnew(bearer)
		res, err := u.call(ctx, c, principal)
		u.answered(c, res, func() { u.shownAnew(bearer) })
		return res, err
	}
	return u.call(ctx, c, principal)
}

// call is Call for a call that leaves what the server shows as it is.
func (u *Upstream) call(ctx context.Context, c *mcp.Call, principal Partition) (*mcp.Result, error) {
	q := u.ask(c, principal)
	if q == nil {
		return u.pass(ctx, c, principal)
	}
	if q.keeps {
		now := time.Now()
		var e entry
		if u.inMemory(&q.pair, q, &e, now) && u.fresh(q, &e, now) && u.firstPage(q, &e, now) {
			return u.hit(c, q, &e, now), nil
		}
	}
	l := newLead(u, c, u.planOf(q))
	if !q.shares || !hasID(c) {
		return u.alone(ctx, &l.call, &l.plan)
	}
	return u.fly(ctx, l, u.flightKey(&l.plan))
}

// plan is a question, and for whom its answer is asked.
type plan struct {
	*question
	open bool // for everybody: what comes is only to be shared if it is everybody's
}

func (u *Upstream) planOf(q *question) plan {
	return plan{q, q.keeps && !q.own && u.publics.has(q.public.Key) && u.seen.known(q.asker, q.bearer, time.Now())}
}

// served is an answer, and whether all may have it who asked the same.
type served struct {
	res   *mcp.Result
	share bool
}

// alone is a call that shares with nobody.
func (u *Upstream) alone(ctx context.Context, c *mcp.Call, p *plan) (*mcp.Result, error) {
	a, err := u.find(ctx, c, p)
	return a.res, err
}

// lookUp answers a call by itself: from memory, which an equal call may just have filled, from the tiers behind it, or the server
// does.
func (u *Upstream) lookUp(ctx context.Context, c *mcp.Call, p *plan) (served, error) {
	if !p.keeps {
		return u.relay(ctx, c, p.question)
	}
	q := &query{plan: p, call: c, header: c.Header}
	u.gather(q) // before anything is read: what is found is no older
	if e := u.look(q); e != nil {
		u.metrics.count(tierMemory, outcomeHit)
		u.saved(c)
		return u.found(q, e, tierMemory), nil
	}
	u.metrics.count(tierMemory, outcomeMiss)
	if u.storable(p.question) {
		if e, tier := u.fromSlow(ctx, q); e != nil {
			u.saved(c)
			return u.found(q, e, tier), nil
		}
	}
	if q.stale != nil {
		return u.orStale(ctx, q)
	}
	return u.fetch(ctx, q)
}

// flightKey is under what equal calls are one, while the same tokens hold: a call after an invalidation joins none of before.
// It is the principal's own, until the question's last answer was everybody's.
func (u *Upstream) flightKey(p *plan) flight.Key {
	l, whose := &p.private, p.bearer
	if p.open {
		l, whose = &p.public, Partition{}
	}
	k := flight.Key{Question: l.Key}
	if p.method != mcp.MethodToolsCall { // no call ends the joining of those of its own kind
		k.Epoch = u.writesSeen.of(whose).Load()
	}
	var room [tier.MaxGuards]tier.Token
	for _, t := range u.store.memory.Tokens.Read(l.Generations, room[:0]) {
		k.Epoch = k.Epoch*1099511628211 + uint64(t) // tokens are random
	}
	return k
}

// collapsed notes that another call's answer was given to one.
func (u *Upstream) collapsed(c *mcp.Call, q *question, res *mcp.Result) {
	u.metrics.coalesced.Inc()
	u.metrics.count(tierNone, outcomeCollapsed)
	u.saved(c)
	u.savedBySession(q)
	if !strings.HasPrefix(first(res.Header["Cache-Status"]), statusHit) { // what the flight found in a tier is a hit for all
		res.Header["Cache-Status"] = collapsedStatus
	}
}

// collapsedStatus is the Cache-Status of a follower. All share it.
var collapsedStatus = []string{"fluentd-perf; fwd=miss; collapsed"}

// hasID reports whether an answer to the call can be given under an id of its own.
func hasID(c *mcp.Call) bool {
	id := c.ID()
	return len(id) > 0 && id[0] != 'n'
}
