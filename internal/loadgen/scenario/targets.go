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

// goal adds a promise and what came of it.
func (l *lab) goal(g loadgen.Goal) {
	g.Judge()
	l.report.Goals = append(l.report.Goals, g)
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
	sum := &run.Targets[0].Sum
	meant := float64(sum.Requests + sum.Dropped)
	l.goal(loadgen.Goal{Name: fmt.Sprintf("%g requests a second, sustained for %v", rate, duration), Unit: "% of the calls sent in time and answered rightly",
		Wanted: 100 * (1 - maxUnsent), Got: 100 * float64(max(0, sum.Succeeded-sum.Late)) / meant,
		Detail: fmt.Sprintf("%.0f right answers a second, %.0f calls meant to be sent, %d late, %d dropped", sum.PerSecond, meant, sum.Late, sum.Dropped)})
	l.goal(loadgen.Goal{Name: "P95 of the mix, from the intended send", Unit: "ms", AtMost: true, Wanted: targetP95Ms, Got: sum.Intended.P95 / 1e3})
	l.goal(loadgen.Goal{Name: "errors of the mix", Unit: "calls", AtMost: true, Wanted: 0, Got: float64(sum.Failed), Detail: sum.FirstFault})
	l.goal(loadgen.Goal{Name: "hits of the mix", Unit: "%", AtMost: true, Wanted: targetMixHits, Got: 100 * sum.Cache.HitShare()})
	if u := sum.Process; u != nil {
		cores := float64(l.report.Machine.CPUs)
		l.goal(loadgen.Goal{Name: "the daemon's CPU during the mix", Unit: fmt.Sprintf("%% of %g CPUs", cores), AtMost: true, Wanted: targetCPU,
			Got: 100 * u.CPUSeconds / sum.Seconds / cores, Detail: fmt.Sprintf("%.1f µs a request", u.CPUUs)})
	}
	if c := sum.Server; c != nil {
		l.goal(loadgen.Goal{Name: "connections to the server that are used again", Unit: "%", Wanted: targetReuse,
			Got: 100 * (1 - float64(c.Connections)/float64(c.Posts)), Detail: fmt.Sprintf("%d requests over %d new connections", c.Posts, c.Connections)})
	}
	return nil
}

// showInFlight is the memory with many calls under way.
func (l *lab) showInFlight(ctx context.Context, n int) error {
	run, err := l.inFlightRun(ctx, n, false)
	if err != nil {
		return err
	}
	sum := &run.Targets[0].Sum
	g := loadgen.Goal{Name: fmt.Sprintf("the daemon's memory with %d operations in flight", n), Unit: "MB resident", AtMost: true, Wanted: targetMB}
	if u := sum.Process; u != nil {
		g.Got = float64(u.PeakRSS) / 1e6
		l.goal(g)
	}
	l.goal(loadgen.Goal{Name: fmt.Sprintf("errors with %d operations in flight", n), Unit: "calls", AtMost: true, Wanted: 0, Got: float64(sum.Failed), Detail: sum.FirstFault})
	return nil
}

// showStreams is many connections with a stream each, at a daemon that has its descriptors for them: those of before keep connections to
// the server open for a while.
func (l *lab) showStreams(ctx context.Context) error {
	n := or(l.o.Connections, targetStreams)
	l.endDaemons()
	if err := l.startDaemons(ctx, false, l.config(0)); err != nil {
		return err
	}
	subjects, err := l.ownSubjects(upstream{"mcp", "session", "/session", mcp.EraLegacy})
	if err != nil {
		return err
	}
	run, err := l.measure(ctx, experiment{
		name: fmt.Sprintf("%d connections with a stream each", n), subjects: subjects[1:], rounds: 1, streams: n,
		load: loadgen.Load{Loop: loadgen.Closed, Concurrency: idleClients, Requests: 1000},
		work: func() *loadgen.Work { return loadgen.Only(toolCall(fastserver.Small)) },
	})
	if err != nil {
		return err
	}
	c := run.Targets[0].Streams
	l.goal(loadgen.Goal{Name: fmt.Sprintf("%d connections with a stream each, calls meanwhile", n), Unit: "streams open in the end", Wanted: float64(n), Got: float64(c.Alive),
		Detail: fmt.Sprintf("%.1f kB each", float64(c.BytesEach())/1e3)})
	return nil
}

// showHits is work that is repeated.
func (l *lab) showHits(ctx context.Context) error {
	subjects, err := l.ownSubjects(upstream{"mcp", "cached", "/mcp", mcp.EraModern})
	if err != nil {
		return err
	}
	run, err := l.measure(ctx, experiment{
		name: fmt.Sprintf("%d calls, each made often", repeatedKeys), subjects: subjects[1:2], rounds: 1, noWarmUp: true,
		load: loadgen.Load{Loop: loadgen.Closed, Concurrency: defaultConcurrency, Requests: defaultRequests},
		work: func() *loadgen.Work { return repeated(toolCall(fastserver.Small), repeatedKeys) },
	})
	if err != nil {
		return err
	}
	l.goal(loadgen.Goal{Name: "hits of repeated work", Unit: "%", Wanted: targetHits, Got: 100 * run.Targets[0].Sum.Cache.HitShare()})
	return nil
}

// showBatch is arrays of calls.
func (l *lab) showBatch(ctx context.Context) error {
	subjects, err := l.ownSubjects(upstream{"rpc", "joined", "/rpc", mcp.EraPlain})
	if err != nil {
		return err
	}
	run, err := l.measure(ctx, experiment{
		name: fmt.Sprintf("arrays of %d calls", arraySize), subjects: subjects[1:2], rounds: 1, noWarmUp: true,
		load: loadgen.Load{Loop: loadgen.Closed, Concurrency: 4, Requests: 100},
		work: func() *loadgen.Work { return loadgen.Only(plainCall(arraySize)) },
	})
	if err != nil {
		return err
	}
	g := loadgen.Goal{Name: fmt.Sprintf("%d calls a batch", arraySize), Unit: "calls in one array to the server", Wanted: arraySize}
	if c := run.Targets[0].Sum.Server; c != nil {
		g.Got = float64(c.MaxBatch)
	}
	if failed := run.Targets[0].Sum.Failed; failed > 0 {
		g.Got, g.Detail = 0, fmt.Sprintf("%d arrays failed: %s", failed, run.Targets[0].Sum.FirstFault)
	}
	l.goal(g)
	return nil
}
