package scenario

import (
	"context"
	"fmt"
	"slices"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

// work returns what is called: what the user named, or the small tool of the scripted server.
func (o *Options) work() func() *loadgen.Work {
	k := toolCall(fastserver.Small)
	switch {
	case o.Call != nil:
		k = *o.Call
	case o.Server != nil || o.Daemon != nil: // a list does no harm
		k = loadgen.List()
	}
	return func() *loadgen.Work { return loadgen.Only(k) }
}

// title names a load.
func title(load loadgen.Load) string {
	if load.Loop == loadgen.Open {
		return fmt.Sprintf("%g a second", load.Rate)
	}
	return fmt.Sprintf("%d at once", load.Concurrency)
}

func highThroughput(ctx context.Context, l *lab) error {
	load := l.o.load(defaultConcurrency, defaultRequests)
	subjects, err := l.subjects(ctx, load.Concurrency)
	if err != nil {
		return err
	}
	_, err = l.measure(ctx, experiment{name: title(load), load: load, subjects: subjects, work: l.o.work(), rounds: l.o.rounds()})
	return err
}

// clientCounts are the calls at once of client_throughput.
var clientCounts = []int{1, 10, 50, 100, 500}

func clientThroughput(ctx context.Context, l *lab) error {
	counts := clientCounts
	if l.o.Limited {
		counts = []int{1, LimitedAtOnce}
	}
	if n := l.o.MaxProcesses; n > 0 {
		counts = slices.DeleteFunc(slices.Clone(counts), func(count int) bool { return count > n })
	}
	subjects, err := l.subjects(ctx, counts[len(counts)-1])
	if err != nil {
		return err
	}
	for _, n := range counts {
		load := l.o.load(n, defaultRequests)
		load.Concurrency = n
		e := experiment{name: fmt.Sprintf("%d clients", n), load: load, subjects: fresh(subjects), work: l.o.work(), rounds: l.o.rounds()}
		if _, err := l.measure(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// The keys of the scenario cache: their number, and how much more often the first ones are called.
const (
	zipfKeys     = 1000
	zipfExponent = 1.0
)

func cache(ctx context.Context, l *lab) error {
	load := l.o.load(defaultConcurrency, defaultRequests)
	if l.o.Era == mcp.EraLegacy {
		l.note("Calls of tools are shared between sessions by nobody: this scenario has a legacy server without sessions.")
	}
	if err := l.startDaemons(ctx, true, l.config(load.Concurrency)); err != nil {
		return err
	}
	subjects, err := l.ownSubjects(upstream{"mcp", "cached", "/mcp", l.o.Era})
	if err != nil {
		return err
	}
	l.note("%d different calls, the nth most frequent 1/n as often as the first; every round begins with none of them cached.", zipfKeys)
	_, err = l.measure(ctx, experiment{
		name: title(load), load: load, subjects: subjects, rounds: l.o.rounds(), noWarmUp: true,
		work: func() *loadgen.Work { return zipf(toolCall(fastserver.Small), zipfKeys, zipfExponent) },
	})
	return err
}

// burstSize is how many equal calls are made at once, and bursts how often in a round.
const (
	burstSize = 100
	bursts    = 10
)

func coalesce(ctx context.Context, l *lab) error {
	size := or(l.o.Concurrency, burstSize)
	load := loadgen.Load{Loop: loadgen.Burst, Concurrency: size, Requests: or(l.o.Requests, int64(bursts*size))}
	if err := l.startDaemons(ctx, true, l.config(size)); err != nil {
		return err
	}
	subjects, err := l.ownSubjects(upstream{"mcp", "coalesced", "/mcp", l.o.Era})
	if err != nil {
		return err
	}
	_, err = l.measure(ctx, experiment{
		name: fmt.Sprintf("bursts of %d equal calls of %d ms", size, coalesceMs), load: load, subjects: subjects, rounds: l.o.rounds(), noWarmUp: true,
		work: func() *loadgen.Work { return sameInBurst(waitCall(coalesceMs), int64(size)) },
	})
	return err
}

// arraySize is how many calls an agent's array has, batchClients how many call one by one and arrayClients how many send arrays.
const (
	arraySize    = 100
	batchClients = 100
	arrayClients = 4
)

func batch(ctx context.Context, l *lab) error {
	load := l.o.load(batchClients, defaultRequests)
	if err := l.startDaemons(ctx, true, l.config(load.Concurrency)); err != nil {
		return err
	}
	arrays := l.o.load(arrayClients, 0)
	if l.o.Concurrency == 0 {
		arrays.Concurrency = arrayClients
	}
	if load.Requests > 0 {
		arrays.Requests = max(1, load.Requests/arraySize)
	}
	arrays.Rate = load.Rate / arraySize
	for _, b := range []struct {
		name, upstream string
		load           loadgen.Load
		array          int
	}{
		{"one by one", "single", load, 0},
		{"joined by the daemon", "joined", load, 0},
		{fmt.Sprintf("in arrays of %d", arraySize), "joined", arrays, arraySize},
	} {
		subjects, err := l.ownSubjects(upstream{"rpc", b.upstream, "/rpc", mcp.EraPlain})
		if err != nil {
			return err
		}
		e := experiment{name: b.name, load: b.load, subjects: subjects, rounds: l.o.rounds(), work: func() *loadgen.Work { return loadgen.Only(plainCall(b.array)) }}
		run, err := l.measure(ctx, e)
		if err != nil {
			return err
		}
		l.noteBatches(run)
	}
	l.note("In arrays of %d: an array counts as one call.", arraySize)
	return nil
}

// noteBatches says how the calls of a daemon reached the server.
func (l *lab) noteBatches(run *loadgen.Run) {
	for _, t := range run.Targets {
		if c := t.Sum.Server; c != nil && t.Role == loadgen.RoleDaemon {
			l.note("%s: %d calls reached the server in %d POSTs, %.1f in each.", run.Name, c.Calls, c.Posts, float64(c.Calls)/float64(c.Posts))
		}
	}
}

// sessionRequests is how many sessions a round has.
const (
	sessionClients  = 8
	sessionRequests = 500
)

func sessions(ctx context.Context, l *lab) error {
	load := l.o.load(sessionClients, sessionRequests)
	subjects, err := l.subjects(ctx, load.Concurrency)
	if err != nil {
		return err
	}
	life := loadgen.Kind{Name: "session", Session: true}
	_, err = l.measure(ctx, experiment{
		name: title(load), load: load, subjects: subjects, rounds: l.o.rounds(), noConnect: true,
		work: func() *loadgen.Work { return loadgen.Only(life) },
	})
	return err
}

// The scenario connections: sessions with a stream each, and clients that call meanwhile.
const (
	idleSessions = 1000
	idleClients  = 8
)

func connections(ctx context.Context, l *lab) error {
	load, n := l.o.load(idleClients, defaultRequests), or(l.o.Connections, idleSessions)
	if err := l.startDaemons(ctx, true, l.config(load.Concurrency)); err != nil {
		return err
	}
	subjects, err := l.ownSubjects(upstream{"mcp", "session", "/session", mcp.EraLegacy})
	if err != nil {
		return err
	}
	l.note("Sessions with GET streams are those of legacy servers (up to 2025-11-25), whatever --era says.")
	run, err := l.measure(ctx, experiment{
		name: fmt.Sprintf("%d sessions with a stream each, %d clients that call", n, load.Concurrency), load: load,
		subjects: subjects[1:], rounds: l.o.rounds(), streams: n,
		work: func() *loadgen.Work { return loadgen.Only(toolCall(fastserver.Small)) },
	})
	if err != nil {
		return err
	}
	for _, t := range run.Targets {
		if c := t.Streams; c.BytesEach() > 0 {
			l.note("%s: %d sessions with a stream each took %.1f MB, %.1f kB each.", t.Name, c.Opened, float64(c.RSSAfter-c.RSSBefore)/1e6, float64(c.BytesEach())/1e3)
		}
	}
	return nil
}

// inFlight is how many calls the scenario memory and the targets have under way, and inFlightMs how long each takes at the server.
const (
	inFlight   = 1000
	inFlightMs = 500
)

func memory(ctx context.Context, l *lab) error {
	n := or(l.o.Concurrency, inFlight)
	if err := l.startDaemons(ctx, true, l.config(n)); err != nil {
		return err
	}
	idle, _ := loadgen.ProcessRSS(l.daemons[0].pid()) // what is not known is left out
	load := l.o.load(defaultConcurrency, defaultRequests)
	load.Concurrency = defaultConcurrency
	for _, c := range []struct {
		name, upstream string
		work           func() *loadgen.Work
	}{
		{"calls of 200 B", "mcp", func() *loadgen.Work { return loadgen.Only(toolCall(fastserver.Small)) }},
		{"calls of 10 KB", "mcp", func() *loadgen.Work { return loadgen.Only(toolCall(fastserver.Large)) }},
		{"calls with progress", "mcp", func() *loadgen.Work { return loadgen.Only(progressCall()) }},
		{"hits of 200 B", "cached", func() *loadgen.Work { return repeated(toolCall(fastserver.Small), 1) }},
	} {
		if err := l.memoryOf(ctx, c.name, upstream{"mcp", c.upstream, "/mcp", mcp.EraModern}, load, c.work); err != nil {
			return err
		}
	}
	run, err := l.inFlightRun(ctx, n)
	if err != nil {
		return err
	}
	for _, t := range run.Targets {
		if u := t.Sum.Process; u != nil && t.Role == loadgen.RoleDaemon {
			l.note("%s: %.1f MB resident before any call, %.1f MB at most with %d calls under way.", t.Name, float64(idle)/1e6, float64(u.PeakRSS)/1e6, n)
		}
	}
	return nil
}

// memoryOf measures the daemons alone.
func (l *lab) memoryOf(ctx context.Context, name string, up upstream, load loadgen.Load, work func() *loadgen.Work) error {
	subjects, err := l.ownSubjects(up)
	if err != nil {
		return err
	}
	_, err = l.measure(ctx, experiment{name: name, load: load, subjects: subjects[1:], rounds: l.o.rounds(), work: work})
	return err
}

// inFlightRun has n calls under way at a time, twice over.
func (l *lab) inFlightRun(ctx context.Context, n int) (*loadgen.Run, error) {
	subjects, err := l.ownSubjects(upstream{"mcp", "mcp", "/mcp", mcp.EraModern})
	if err != nil {
		return nil, err
	}
	return l.measure(ctx, experiment{
		name: fmt.Sprintf("%d calls under way", n), subjects: subjects[1:], rounds: 1, noWarmUp: true,
		load: loadgen.Load{Loop: loadgen.Closed, Concurrency: n, Requests: int64(2 * n)},
		work: func() *loadgen.Work { return loadgen.Only(waitCall(inFlightMs)) },
	})
}
