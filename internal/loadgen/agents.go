package loadgen

import (
	"context"
	"strconv"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// The times of an agent, as kinds of a report: from connecting to the first list, and to the answer of the first call.
const (
	StepListed = "to the list"
	StepCalled = "to the call"
)

// Agents are clients that all start at once, as those of people who open several at a time: each connects, opens a session, asks for
// the tools, calls one, and keeps its session until the others have got as far.
type Agents struct {
	Number    int
	Call      *Kind // the first call; nil: none is made
	Different bool  // each says that it has a version of its own, so that nothing fits that was made ready for another
	// Reached is called when all have their list, and when all have the answer to their call. Nobody goes on before it returns. pids are
	// those of the agents' processes, where the target is a command.
	Reached func(step string, pids []int)
}

// agent is one of them.
type agent struct {
	client *client
	begun  time.Time
	took   time.Duration // without the waits for others
	listed time.Duration
	fault  *fault
}

// RunAgents has agents do this once, and ends their sessions. Errors are those of Run. A call of the Tally is an agent; its time is
// that to the last answer, without the waits for others.
func (p *Clients) RunAgents(ctx context.Context, a Agents) (*Tally, error) {
	stop := context.AfterFunc(ctx, p.abort)
	defer stop()
	opened := p.opened.Load()
	all := p.agents(a)
	defer leaveAll(ctx, all)
	seconds := forAll(all, func(one *agent) *fault { return one.list(ctx) })
	for _, one := range all {
		one.listed = one.took
	}
	a.Reached(StepListed, pidsOf(all))
	if a.Call != nil {
		seconds += forAll(all, func(one *agent) *fault {
			_, f := one.client.call(ctx, a.Call, NewKeys())
			return f
		})
		a.Reached(StepCalled, pidsOf(all))
	}
	t := tallyOf(all, a.Call != nil)
	t.seconds, t.opened = seconds, p.opened.Load()-opened
	switch {
	case ctx.Err() != nil:
		return t, context.Cause(ctx)
	case t.succeeded == 0:
		return t, noSuccess(t)
	}
	return t, nil
}

func (p *Clients) agents(a Agents) []*agent {
	all := make([]*agent, a.Number)
	for i := range all {
		target := *p.target
		if a.Different {
			target.Version = strconv.FormatInt(NewKeys(), 10)
		}
		all[i] = &agent{client: &client{target: &target, pool: p}}
	}
	return all
}

// forAll has all agents that have failed nowhere yet do something at once, and returns how long that took, in seconds.
func forAll(all []*agent, do func(*agent) *fault) float64 {
	begun := time.Now()
	var working sync.WaitGroup
	for _, one := range all {
		if one.fault != nil {
			continue
		}
		working.Go(func() {
			from := time.Now()
			if one.begun.IsZero() {
				one.begun = from
			}
			one.fault = do(one)
			one.took += time.Since(from)
		})
	}
	working.Wait()
	return time.Since(begun).Seconds()
}

// list connects, opens a session, or what is one to the user of a modern server, and asks for the tools.
func (one *agent) list(ctx context.Context) *fault {
	if err := one.client.connect(ctx); err != nil {
		return connectFault(err)
	}
	if one.client.target.Era == mcp.EraModern {
		if _, f := one.client.call(ctx, &discover, 0); f != nil {
			return f
		}
	}
	_, f := one.client.call(ctx, &listTools, 0)
	return f
}

// leaveAll ends the sessions. What servers say to that is theirs.
func leaveAll(ctx context.Context, all []*agent) {
	var leaving sync.WaitGroup
	for _, one := range all {
		leaving.Go(func() { _ = one.client.leave(ctx) })
	}
	leaving.Wait()
}

func pidsOf(all []*agent) (pids []int) {
	for _, one := range all {
		if p, ok := one.client.conn.(*processConn); ok {
			pids = append(pids, p.pid())
		}
	}
	return pids
}

// tallyOf records what the agents have measured.
func tallyOf(all []*agent, called bool) *Tally {
	kinds := []tallyKind{{name: "agent"}, {name: StepListed, part: true}}
	if called {
		kinds = append(kinds, tallyKind{name: StepCalled, part: true})
	}
	r := newRecord(len(kinds), false)
	for i, one := range all {
		r.count(i, 0, cacheNone, one.begun, timing{one.begun, one.begun.Add(one.took)}, one.fault)
		if one.fault != nil {
			continue
		}
		r.part(i, 1, cacheNone, one.listed)
		if called {
			r.part(i, 2, cacheNone, one.took)
		}
	}
	return r.tally(kinds)
}
