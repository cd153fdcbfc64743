package loadgen

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// The steps of a session's life, as kinds of their own in a report.
var steps = []string{"connect", "open", "tools/list", "leave"}

// listTools is the one call of a session's life.
var listTools = List()

// tallyKinds are the kinds of the calls, and behind them the steps of sessions where the work has such.
func (w *Work) tallyKinds() []tallyKind {
	var all []tallyKind
	sessions := false
	for _, k := range w.Kinds {
		all = append(all, tallyKind{name: k.Name})
		sessions = sessions || k.Session
	}
	if sessions {
		for _, s := range steps {
			all = append(all, tallyKind{name: s, part: true})
		}
	}
	return all
}

// discover opens what is a session to the user of a modern server (2026-07-28, server/discover).
var discover = Kind{Name: "server/discover", Method: "server/discover"}

// life is the whole of a session, over a connection of its own. first is the index of the first step among the kinds.
func (r *run) life(ctx context.Context, worker, first int) (timing, *fault) {
	c := &client{target: r.pool.target, pool: r.pool}
	defer c.disconnect()
	t := timing{sent: time.Now()}
	last := t.sent
	step := func(i int, f *fault) *fault {
		now := time.Now()
		if f == nil {
			r.record.part(worker, first+i, c.answer.cache, now.Sub(last))
		}
		t.done, last = now, now
		return f
	}
	connect := func() *fault { return connectFault(c.dial(ctx)) }
	open := func() *fault {
		if c.target.Era == mcp.EraLegacy {
			return connectFault(c.handshake(ctx))
		}
		_, f := c.call(ctx, &discover, 0)
		return f
	}
	list := func() *fault {
		_, f := c.call(ctx, &listTools, 0)
		return f
	}
	leave := func() *fault {
		if err := c.leave(ctx); err != nil {
			return brokenOff(err)
		}
		return nil
	}
	for i, do := range []func() *fault{connect, open, list, leave} {
		if f := step(i, do()); f != nil {
			return t, f
		}
	}
	return t, nil
}

func connectFault(err error) *fault {
	if err == nil {
		return nil
	}
	return &fault{FaultConnect, err.Error()}
}
