package cache

import (
	"context"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/mcp"
)

// Flown is a call that went on by a flight.
type Flown struct {
	Key    flight.Key
	Scoped bool // it asked for all sessions of a view
	Loose  bool // so is the answer
	Shared bool // everybody who asked the same may have the answer
}

// Watch has each call told that goes on by a flight.
func (u *Stage) Watch(f func(*mcp.Call, Flown)) {
	join := u.joinOrLead
	u.joinOrLead = func(ctx context.Context, l *leader, k flight.Key) (*mcp.Result, error) {
		res, err := join(ctx, l, k)
		f(&l.call, Flown{Key: k, Scoped: l.variant.forView, Loose: l.res != nil && l.res.Message.Loose, Shared: l.share})
		return res, err
	}
}

// FlightKey is under what a call would go by a flight now; the zero Key where it would not.
func (u *Stage) FlightKey(c *mcp.Call) flight.Key {
	q := u.requestOf(c, u.store.Partition(c))
	if q == nil || !q.coalescable || !isID(c.ID()) {
		return flight.Key{}
	}
	p := u.variantOf(q)
	return u.flightKey(&p)
}

type throughKey struct{}

// Switchable makes Through work. It is called before the first call.
func (u *Stage) Switchable() {
	server := u.next
	u.next = mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if next, ok := ctx.Value(throughKey{}).(mcp.Caller); ok {
			return next.Call(ctx, c)
		}
		return server.Call(ctx, c)
	})
}

// Through is the stage with another server, for calls that go by no flight.
func (u *Stage) Through(next mcp.Caller) mcp.Caller {
	return mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		return u.Call(context.WithValue(ctx, throughKey{}, next), c)
	})
}
