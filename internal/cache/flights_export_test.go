package cache

import (
	"context"
	"log/slog"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/mcp"
)

// FlightHeader says of a call for Flights under which key it goes, ShareHeader of an answer that all may have it.
const (
	FlightHeader = "X-Flight"
	ShareHeader  = "X-Share"
)

// FlightsOptions are those of Flights.
type FlightsOptions struct {
	Next         mcp.Caller
	Base         context.Context
	MaxAge, Hold time.Duration
	Buffers      *mcp.BufferPool
	Metrics      *Metrics
	Log          *slog.Logger
}

// Flights are those of an upstream, by themselves.
type Flights struct {
	u    *Stage
	next mcp.Caller
}

// NewFlights makes them.
func NewFlights(o FlightsOptions) *Flights {
	u := &Stage{
		store: &Store{
			log: o.Log, buffers: o.Buffers, partitions: newPartitioner(newSecret([]byte("0123456789abcdef")), []string{FlightHeader}),
		},
		opts: StageOptions{Name: "test"}, metrics: o.Metrics.upstream("test"),
		times: new(mcp.RecentTimes), next: o.Next, serverState: new(serverState),
	}
	u.flights = flight.New[*mcp.Call, *sharedAnswer](flight.Options{Base: o.Base, MaxAge: o.MaxAge, Hold: o.Hold})
	u.answerer = func(ctx context.Context, c *mcp.Call, _ *variant) (served, error) {
		res, err := o.Next.Call(ctx, c)
		if err != nil {
			return served{}, err
		}
		share := res.Header.Get(ShareHeader) != ""
		res.Header.Del(ShareHeader)
		return served{res, share}, nil
	}
	return &Flights{u: u, next: o.Next}
}

// Call is Stage.Call for a call that the cache has nothing for.
func (f *Flights) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.IsCancel() && f.u.canceled(c) {
		return mcp.Accepted(), nil
	}
	key := c.Header.Get(FlightHeader)
	p := variant{request: &request{name: c.Method().String()}}
	if key == "" || c.Lane != mcp.LaneRequest || c.Message.Kind != mcp.KindRequest || !isID(c.ID()) {
		return f.u.unshared(ctx, c, &p)
	}
	k := flight.Key{Epoch: f.u.writeCounts.of(partition{}).Load()}
	copy(k.Request[:], key)
	res, err := f.u.joinFlight(ctx, newLeader(f.u, c, p), k)
	if err == nil && res.Header.Get("Cache-Status") == "fluentd-perf; fwd=miss; collapsed" { // is the stage's
		res.Header.Del("Cache-Status")
	}
	return res, err
}

// Fence lets no call join the flights that are under way.
func (f *Flights) Fence() { f.u.writeCounts.of(partition{}).Add(1) }

// Wait waits for the flights.
func (f *Flights) Wait() { f.u.flights.Wait() }

// Pending returns how many flights there are.
func (f *Flights) Pending() int { return f.u.flights.Len() }
