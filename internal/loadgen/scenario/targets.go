package scenario

import (
	"context"
	"fmt"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

// The targets: what is promised. The flags make the loads smaller or larger; what is wanted then is in the goals' names.
const (
	targetRate     = 10_000.0
	targetDuration = 60 * time.Second
	targetP95Ms    = 100.0
	targetCPU      = 80.0 // percent of the machine
	targetMB       = 500.0
	targetStreams  = 9_900
	targetHits     = 90.0 // percent, of repeated work
	targetMixHits  = 30.0 // percent at most, of the mix: else it would show the cache
	targetReuse    = 95.0 // percent

	maxAtOnce    = 1000 // calls of the mix under way
	repeatedKeys = 100
)

// targets shows each of the targets.
func targets(ctx context.Context, l *lab) error {
	n := or(l.o.Concurrency, inFlight)
	if err := l.startDaemons(ctx, true, l.config(max(n, maxAtOnce))); err != nil {
		return err
	}
	for _, show := range []func(context.Context) error{
		l.showMix,
		func(ctx context.Context) error { return l.showInFlight(ctx, n) },
		l.showHits, l.showBatch, l.showStreams,
	} {
		if err := show(ctx); err != nil {
			return err
		}
	}
	return nil
}

// figure reads what came of a promise from the figures of a target; known is false where they do not have it.
type figure func(*loadgen.Result) (got float64, detail string, known bool)

// goal adds a promise and what came of it: with the daemon, and with the same build again. One of which that is not known is not met.
func (l *lab) goal(run *loadgen.Run, g loadgen.Goal, of figure) {
	got, detail, known := of(&run.Targets[0])
	again, _, alsoKnown := of(&run.Targets[1])
	if known && alsoKnown {
		g.Got, g.Again, g.Detail = got, &again, detail
	} else {
		g.Unknown, g.Detail = true, "it cannot be read on this machine"
	}
	g.Judge()
	l.report.Goals = append(l.report.Goals, g)
}

// residentMB is the most memory that a daemon had.
func residentMB(t *loadgen.Result) (got float64, detail string, known bool) {
	u := t.Sum.Process
	if u == nil || u.PeakRSS == 0 {
		return 0, "", false
	}
	return float64(u.PeakRSS) / 1e6, "", true
}

// failed is how many calls had no right answer.
func failed(t *loadgen.Result) (float64, string, bool) {
	return float64(t.Sum.Failed), t.Sum.FirstFault, true
}

// hits is how many answers were not the server's to give, in percent.
func hits(t *loadgen.Result) (float64, string, bool) {
	return 100 * t.Sum.Cache.HitShare(), "", true
}

// showMix is the mixed load at a constant rate.
func (l *lab) showMix(ctx context.Context) error {
	rate := l.o.Rate
	if rate == 0 {
		rate = targetRate
	}
	duration := l.o.Duration
	if duration == 0 {
		duration = targetDuration
	}
	subjects, err := l.ownSubjects(upstream{"mcp", "mcp", "/mcp", mcp.EraModern})
	if err != nil {
		return err
	}
	run, err := l.measure(ctx, experiment{
		name: fmt.Sprintf("the mix, %g a second for %v", rate, duration), subjects: subjects[1:], rounds: 1, work: mix,
		load: loadgen.Load{Loop: loadgen.Open, Concurrency: maxAtOnce, Rate: rate, DurationMs: duration.Milliseconds()},
	})
	if err != nil {
		return err
	}
	l.note("The mix: of ten calls five unique ones of 200 B, two of 10 KB, two lists and one with progress in a stream.")
	l.goal(run, loadgen.Goal{
		Name: fmt.Sprintf("%g requests a second, sustained for %v", rate, duration), Unit: "% of the calls sent in time and answered rightly",
		Wanted: 100 * (1 - maxUnsent),
	}, func(t *loadgen.Result) (float64, string, bool) {
		sum := &t.Sum
		meant := float64(sum.Requests + sum.Dropped)
		return 100 * float64(max(0, sum.Succeeded-sum.Late)) / meant,
			fmt.Sprintf("%.0f right answers a second, %.0f calls meant to be sent, %d late, %d dropped", sum.PerSecond, meant, sum.Late, sum.Dropped), true
	})
	l.goal(run, loadgen.Goal{Name: "P95 of the mix, from the intended send", Unit: "ms", AtMost: true, Wanted: targetP95Ms},
		func(t *loadgen.Result) (float64, string, bool) { return t.Sum.Intended.P95 / 1e3, "", true })
	l.goal(run, loadgen.Goal{Name: "errors of the mix", Unit: "calls", AtMost: true, Wanted: 0}, failed)
	l.goal(run, loadgen.Goal{Name: "hits of the mix", Unit: "%", AtMost: true, Wanted: targetMixHits}, hits)
	cores := float64(l.report.Machine.CPUs)
	l.noteCores()
	l.goal(run, loadgen.Goal{Name: "the daemon's CPU during the mix", Unit: fmt.Sprintf("%% of %g CPUs", cores), AtMost: true, Wanted: targetCPU},
		func(t *loadgen.Result) (got float64, detail string, known bool) {
			u := t.Sum.Process
			if u == nil || u.CPUSeconds == 0 {
				return 0, "", false
			}
			return 100 * u.CPUSeconds / t.Sum.Seconds / cores, fmt.Sprintf("%.1f µs a request", u.CPUUs), true
		})
	l.goal(run, loadgen.Goal{Name: "connections to the server that are used again", Unit: "%", Wanted: targetReuse},
		func(t *loadgen.Result) (got float64, detail string, known bool) {
			c := t.Sum.Server
			if c == nil {
				return 0, "", false
			}
			return 100 * (1 - float64(c.Connections)/float64(c.Posts)), fmt.Sprintf("%d requests over %d new connections", c.Posts, c.Connections), true
		})
	return nil
}

// targetCores is how many CPUs the targets speak of, for generator, server and daemon together.
const targetCores = 2

// noteCores says where a machine has more: a share of them is more than was promised.
func (l *lab) noteCores() {
	if n := l.report.Machine.CPUs; n > targetCores {
		l.note("The targets are for generator, server and daemon on the same %d CPUs, and here are %d: what is met here need not be met there. On Linux taskset -c 0,1 before the command allows it two.", targetCores, n)
	}
}

// showInFlight is the memory with many calls under way.
func (l *lab) showInFlight(ctx context.Context, n int) error {
	run, err := l.inFlightRun(ctx, n)
	if err != nil {
		return err
	}
	l.goal(run, loadgen.Goal{Name: fmt.Sprintf("the daemon's memory with %d operations in flight", n), Unit: "MB resident", AtMost: true, Wanted: targetMB}, residentMB)
	l.goal(run, loadgen.Goal{Name: fmt.Sprintf("errors with %d operations in flight", n), Unit: "calls", AtMost: true, Wanted: 0}, failed)
	return nil
}

// showStreams is many connections with a stream each, at daemons that have their descriptors for them: those of before keep connections to
// the server open for a while. One daemon after the other has them: a machine may not have the memory for both.
func (l *lab) showStreams(ctx context.Context) error {
	n := or(l.o.Connections, targetStreams)
	l.endDaemons()
	if err := l.startDaemons(ctx, true, l.config(0)); err != nil {
		return err
	}
	subjects, err := l.ownSubjects(upstream{"mcp", "session", "/session", mcp.EraLegacy})
	if err != nil {
		return err
	}
	run, err := l.measure(ctx, experiment{
		name: fmt.Sprintf("%d connections with a stream each", n), subjects: subjects[1:], rounds: 1, streams: n, apart: true,
		load: loadgen.Load{Loop: loadgen.Closed, Concurrency: idleClients, Requests: 1000},
		work: func() *loadgen.Work { return loadgen.Only(toolCall(fastserver.Small)) },
	})
	if err != nil {
		return err
	}
	l.goal(run, loadgen.Goal{Name: fmt.Sprintf("%d connections with a stream each, calls meanwhile", n), Unit: "streams open in the end", Wanted: float64(n)},
		func(t *loadgen.Result) (float64, string, bool) {
			return float64(t.Streams.Alive), fmt.Sprintf("%.1f kB each", float64(t.Streams.BytesEach())/1e3), true
		})
	return nil
}

// showHits is work that is repeated.
func (l *lab) showHits(ctx context.Context) error {
	subjects, err := l.ownSubjects(upstream{"mcp", "cached", "/mcp", mcp.EraModern})
	if err != nil {
		return err
	}
	run, err := l.measure(ctx, experiment{
		name: fmt.Sprintf("%d calls, each made often", repeatedKeys), subjects: subjects[1:], rounds: 1, noWarmUp: true,
		load: loadgen.Load{Loop: loadgen.Closed, Concurrency: defaultConcurrency, Requests: defaultRequests},
		work: func() *loadgen.Work { return repeated(toolCall(fastserver.Small), repeatedKeys) },
	})
	if err != nil {
		return err
	}
	l.goal(run, loadgen.Goal{Name: "hits of repeated work", Unit: "%", Wanted: targetHits}, hits)
	return nil
}

// showBatch is arrays of calls.
func (l *lab) showBatch(ctx context.Context) error {
	subjects, err := l.ownSubjects(upstream{"rpc", "joined", "/rpc", mcp.EraPlain})
	if err != nil {
		return err
	}
	run, err := l.measure(ctx, experiment{
		name: fmt.Sprintf("arrays of %d calls", arraySize), subjects: subjects[1:], rounds: 1, noWarmUp: true,
		load: loadgen.Load{Loop: loadgen.Closed, Concurrency: 4, Requests: 100},
		work: func() *loadgen.Work { return loadgen.Only(plainCall(arraySize)) },
	})
	if err != nil {
		return err
	}
	l.goal(run, loadgen.Goal{Name: fmt.Sprintf("%d calls a batch", arraySize), Unit: "calls in one array to the server", Wanted: arraySize},
		func(t *loadgen.Result) (got float64, detail string, known bool) {
			switch sum := &t.Sum; {
			case sum.Failed > 0:
				return 0, fmt.Sprintf("%d arrays failed: %s", sum.Failed, sum.FirstFault), true
			case sum.Server == nil:
				return 0, "", true
			default:
				return float64(sum.Server.MaxBatch), "", true
			}
		})
	return nil
}
