package cache

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// Call answers one call, from the first of these that has an answer: memory, a flight of equal calls that is under way, a tier
// behind memory, the server. What passes on the way and changes what may be served is applied to the cache first.
//
// Of equal calls the first one leads: it goes on as its agent sent it, id included, on its caller's goroutine, and returns no
// sooner than the next stage does, though its ctx has ended and others wait. Those who wait get the leader's status and body, and
// of its header what is in sharedFields; their Result is Collapsed. A waiter fails at once when its ctx ends. Leader and waiter
// fail with the *mcp.Failure that is ctx's cause, Sent unknown, or else with ReasonCanceled and code 0. The leader's own answer
// lives until ctx ends or it is closed.
//
// A legacy `notifications/cancelled` is relayed as it is. Where it names a call that leads a flight, those who wait call by
// themselves first. Where it names one that waits, that call gets a 202 without a body, and so does the notification.
func (u *Stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	principal := partition(u.store.Partition(c))
	u.listener.Touched(principal)
	if u.acted(c) {
		credential := u.store.credential(c, principal)
		u.invalidateShown(credential)
		res, err := u.call(ctx, c, principal)
		whenAnswered(c, res, func() { u.invalidateShown(credential) })
		return res, err
	}
	return u.call(ctx, c, principal)
}

// call looks into memory, and joins or leads a flight where there is nothing.
func (u *Stage) call(ctx context.Context, c *mcp.Call, principal partition) (*mcp.Result, error) {
	q := u.requestOf(c, principal)
	if q == nil {
		return u.pass(ctx, c, principal)
	}
	if q.cacheable {
		now := time.Now()
		var e entry
		if u.readMemory(&q.keys, q, wholeEntry, &e, now) && u.fresh(q, &e, now) && u.pageHolds(q, &e, now) {
			return u.hit(c, q, &e, now), nil
		}
	}
	l := newLeader(u, c, u.variantOf(q))
	if !q.coalescable || !isID(c.ID()) {
		return u.unshared(ctx, &l.call, &l.variant)
	}
	return u.joinOrLead(ctx, l, u.flightKey(&l.variant))
}

// variant is a request as it is made for its principal, or for everybody.
type variant struct {
	*request
	forAll bool // for everybody: the answer is only shared if it is public
}

// variantOf returns the variant for everybody where the last answer was public and the principal may have such answers.
func (u *Stage) variantOf(q *request) variant {
	return variant{q, q.cacheable && !q.privateOnly && u.publicKeys.has(q.public.Key) && u.credentials.known(q.principal, q.credential, time.Now())}
}

// served is an answer, and whether all who made the same request may have it.
type served struct {
	res   *mcp.Result
	share bool
}

// unshared answers a call that shares with nobody.
func (u *Stage) unshared(ctx context.Context, c *mcp.Call, v *variant) (*mcp.Result, error) {
	a, err := u.answerer(ctx, c, v)
	return a.res, err
}

// answer answers the leader of a flight, or an unshared call: from memory, which an equal call may just have filled, from a tier
// behind it, or from the server.
func (u *Stage) answer(ctx context.Context, c *mcp.Call, v *variant) (served, error) {
	if !v.cacheable {
		return u.relay(ctx, c, v.request)
	}
	q := &load{variant: v, call: c}
	u.readTokens(q) // before any entry is read: an entry that is found is no older than they are
	if e := u.readMemoryAgain(q); e != nil {
		u.metrics.count(tierMemory, outcomeHit)
		u.saved(c)
		return u.tierAnswer(q, e, e.remaining(time.Now().UnixMilli()), tierNames[tierMemory]), nil
	}
	u.metrics.count(tierMemory, outcomeMiss)
	if u.storable(v.request) {
		if e, tier := u.readTiers(ctx, q); e != nil {
			u.saved(c)
			return u.tierAnswer(q, e, e.remaining(time.Now().UnixMilli()), tierNames[tier]), nil
		}
	}
	if q.stale != nil {
		return u.fetchOrStale(ctx, q)
	}
	return u.fetch(ctx, q)
}

// fetch calls the server, and keeps the answer where it may.
func (u *Stage) fetch(ctx context.Context, q *load) (served, error) {
	res, err := u.callServer(ctx, q.call, q.request)
	if err != nil {
		return served{}, err
	}
	if !failed(res, nil) && u.failing.Load() && u.failing.Swap(false) {
		u.store.log.Info("the server answers again", "upstream", u.opts.Name)
	}
	if pageGone(q, res) && q.firstPage != nil {
		u.metrics.bumped(causeCursor)
		u.refusedCursors.put(q.listKey(), q.firstPage.list, maxRemembered)
	}
	share, kept := refusal(res) && !q.forAll && !q.forView, false
	if whole(res) {
		share, kept = u.examine(q, res) // keeps it, see keep.go
	}
	u.noteKept(q, res, kept)
	if kept {
		u.relayed(res, outcomeStored, statusStored)
	} else {
		u.relayed(res, outcomeUncacheable, statusMiss)
	}
	return served{res, share}, nil
}

// relay makes a call whose answer is never kept, but may be shared by those who made the same at the same time. A tools/call may
// change things, once for all of them.
func (u *Stage) relay(ctx context.Context, c *mcp.Call, q *request) (served, error) {
	changes := q.method == mcp.MethodToolsCall
	if changes {
		u.invalidateWrites(q.credential)
	}
	res, err := u.callServer(ctx, c, q)
	if changes {
		whenAnswered(c, res, func() { u.invalidateWrites(q.credential) })
	}
	if err != nil {
		return served{}, err
	}
	u.relayed(res, outcomeBypass, statusBypass)
	return served{res, whole(res) && q.complete(&res.Message, res.Body) || refusal(res)}, nil
}
