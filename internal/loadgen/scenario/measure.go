package scenario

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
)

// maxUnsent is the share of the calls of an open loop that may be late or dropped before its figures are not to be used.
const maxUnsent = 0.01

// nearCeiling is the share of the generator's own ceiling from which on it may be what holds a target back.
const nearCeiling = 0.7

// ceilingMs is how long the generator's ceiling is measured.
const ceilingMs = 200

// experiment is one load on several subjects.
type experiment struct {
	name      string
	load      loadgen.Load
	subjects  []*subject
	work      func() *loadgen.Work // made anew for each round
	rounds    int
	noWarmUp  bool
	noConnect bool     // the calls connect themselves
	apart     bool     // one subject after the other: each has gone before the next one is connected
	streams   int      // sessions with a stream each that are open meanwhile
	problems  []string // that were found before the rounds
}

// measure runs the rounds of an experiment and adds what they come to to the report.
func (l *lab) measure(ctx context.Context, e experiment) (*loadgen.Run, error) {
	if err := l.ceiling(ctx, e.load); err != nil {
		return nil, err
	}
	together := [][]*subject{e.subjects}
	if e.apart {
		together = slices.Collect(slices.Chunk(e.subjects, 1))
	}
	for _, subjects := range together {
		if err := l.rounds(ctx, &e, subjects); err != nil {
			if ctx.Err() != nil {
				l.keep(&e)
			}
			return nil, err
		}
	}
	run := e.result()
	l.noteCeiling(run)
	l.report.Runs = append(l.report.Runs, *run)
	return run, nil
}

// keep adds to the report what there is of an experiment that was interrupted: the rounds that all its subjects have had. Of streams,
// which ended with it, nothing can be said.
func (l *lab) keep(e *experiment) {
	whole := e.rounds
	for _, s := range e.subjects {
		whole = min(whole, len(s.rounds))
	}
	if whole == 0 || e.streams > 0 {
		return
	}
	for _, s := range e.subjects {
		s.tallies, s.rounds = s.tallies[:whole], s.rounds[:whole]
	}
	l.report.Runs = append(l.report.Runs, *e.result())
	l.note("%s: interrupted after %d of %d rounds.", e.name, whole, e.rounds)
}

// rounds runs the rounds of an experiment on some of its subjects, which are connected meanwhile.
func (l *lab) rounds(ctx context.Context, e *experiment, subjects []*subject) error {
	defer disconnect(subjects)
	for _, s := range subjects {
		if err := l.prepare(ctx, e, s); err != nil {
			return err
		}
	}
	for round := 1; round <= e.rounds; round++ {
		order := slices.Clone(subjects)
		if round%2 == 0 {
			slices.Reverse(order)
		}
		for _, s := range order {
			if err := l.round(ctx, e, s, round); err != nil {
				return fmt.Errorf("%s, %s: %w", e.name, s.name, err)
			}
		}
	}
	for _, s := range subjects {
		if s.streams != nil {
			s.idle.Alive = s.streams.Alive()
		}
	}
	return nil
}

// noteCeiling says where the generator may be what holds a daemon back.
func (l *lab) noteCeiling(run *loadgen.Run) {
	for _, c := range l.report.Ceiling {
		for _, t := range run.Targets {
			if c.Concurrency == ceilingAt(run.Load) && t.Role == loadgen.RoleDaemon && t.Sum.PerSecond > nearCeiling*c.PerSecond {
				l.note("%s, %s: %.0f requests/s are near the generator's own ceiling of %.0f: the daemon may be able to do more.", run.Name, t.Name, t.Sum.PerSecond, c.PerSecond)
			}
		}
	}
}

// disconnect ends the connections. Sessions are told to the servers, as far as that is quick.
func disconnect(subjects []*subject) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, s := range subjects {
		if s.clients != nil && s.same == nil {
			s.clients.Close(ctx)
		}
		if s.streams != nil {
			s.streams.Close()
		}
	}
}

// prepare connects a subject's clients and makes a tenth of a round's calls, so that pools and caches are as they will be.
func (l *lab) prepare(ctx context.Context, e *experiment, s *subject) error {
	if s.same != nil {
		s.clients = s.same.clients
		s.meter = loadgen.NewMeter(ctx, s.pid, s.metrics)
		return nil
	}
	s.clients = loadgen.NewClients(s.target)
	if e.load.Loop != loadgen.Open && !e.noConnect {
		if err := s.clients.Open(ctx, e.load.Concurrency); err != nil {
			return fmt.Errorf("%s, connecting: %w", s.name, err)
		}
	}
	if err := l.openStreams(ctx, e, s); err != nil {
		return err
	}
	s.meter = loadgen.NewMeter(ctx, s.pid, s.metrics)
	if e.noWarmUp || l.o.Limited {
		return nil
	}
	warm := e.load
	if warm.DurationMs > 0 {
		warm.DurationMs = max(1, warm.DurationMs/10)
	} else {
		warm.Requests = max(1, warm.Requests/10)
	}
	if warm.Loop == loadgen.Open && warm.Requests == 0 && warm.Rate*float64(warm.DurationMs) < 1000 { // not one call
		return nil
	}
	if _, err := s.clients.Run(ctx, warm, e.work(), l.watch(e, s, 0, nil)); err != nil {
		return fmt.Errorf("%s, %s, warming up: %w", e.name, s.name, err)
	}
	return nil
}

// openStreams opens the streams of an experiment. Fewer than were wanted are a problem of the run, and no error.
func (l *lab) openStreams(ctx context.Context, e *experiment, s *subject) (err error) {
	if e.streams == 0 {
		return nil
	}
	s.idle = &loadgen.StreamCounts{Wanted: e.streams}
	s.idle.RSSBefore, _ = loadgen.ProcessRSS(s.pid) // what is not known is left out
	s.streams, err = loadgen.OpenStreams(ctx, s.target, e.streams, func(open int) {
		if open%100 == 0 {
			l.o.Progress(Progress{Run: fmt.Sprintf("%d of %d streams", open, e.streams), Target: s.name, Rounds: e.rounds})
		}
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.streams == nil:
		return err
	case err != nil:
		e.problems = append(e.problems, fmt.Sprintf("%s: %d of %d streams could be opened: %v", s.name, s.streams.Len(), e.streams, err))
	}
	s.idle.Opened = s.streams.Len()
	s.idle.RSSAfter, _ = loadgen.ProcessRSS(s.pid)
	return nil
}

// watch tells how far a round is, and samples the memory.
func (l *lab) watch(e *experiment, s *subject, round int, meter *loadgen.Meter) func(loadgen.Point) {
	return func(p loadgen.Point) {
		if meter != nil {
			meter.Sample()
		}
		l.o.Progress(Progress{Run: e.name, Target: s.name, Round: round, Rounds: e.rounds, Point: p, Total: e.load.Requests})
	}
}

// round puts the load on one subject once.
func (l *lab) round(ctx context.Context, e *experiment, s *subject, number int) error {
	before, err := l.server.counts(ctx)
	if err != nil {
		return fmt.Errorf("the counts of the benchmark's server: %w", err)
	}
	own := loadgen.NewMeter(ctx, os.Getpid(), nil)
	s.meter.Begin(ctx)
	own.Begin(ctx)
	tally, err := s.clients.Run(ctx, e.load, e.work(), l.watch(e, s, number, s.meter))
	if err != nil {
		return err
	}
	r := tally.Round()
	r.Round, r.Generator, r.Process = number, own.End(ctx, tally.Requests()), s.meter.End(ctx, tally.Requests())
	after, err := l.server.counts(ctx)
	if err != nil {
		return fmt.Errorf("the counts of the benchmark's server: %w", err)
	}
	r.Server = difference(after, before)
	s.tallies, s.rounds = append(s.tallies, tally), append(s.rounds, r)
	return nil
}

// difference is what the scripted server saw between two counts; nil where that is nothing, because another server was called.
func difference(after, before fastserver.Counts) *loadgen.ServerCounts {
	if after.Posts == before.Posts {
		return nil
	}
	return &loadgen.ServerCounts{
		Posts: after.Posts - before.Posts, Calls: after.Calls - before.Calls,
		Connections: after.Connections - before.Connections, MaxBatch: after.MaxBatch,
	}
}

// ceilingAt is how many calls at once tell the ceiling for a load: those of an open loop are a bound, and seldom reached.
func ceilingAt(load loadgen.Load) int {
	if load.Loop == loadgen.Open {
		return min(load.Concurrency, defaultConcurrency)
	}
	return load.Concurrency
}

// ceiling measures what the generator itself can do with a load's calls at once, over the scripted server, where that is not known.
func (l *lab) ceiling(ctx context.Context, load loadgen.Load) error {
	atOnce := ceilingAt(load)
	known := func(c loadgen.Ceiling) bool { return c.Concurrency == atOnce }
	if slices.ContainsFunc(l.report.Ceiling, known) {
		return nil
	}
	target, err := loadgen.NewTarget("http://"+l.server.address+"/mcp", "")
	if err != nil {
		return err
	}
	e := experiment{name: "ceiling", load: loadgen.Load{Loop: loadgen.Closed, Concurrency: atOnce, DurationMs: ceilingMs}}
	s := &subject{name: "generator", target: target, clients: loadgen.NewClients(target)}
	defer disconnect([]*subject{s})
	if err := s.clients.Open(ctx, atOnce); err != nil {
		return fmt.Errorf("the generator's ceiling: %w", err)
	}
	own := loadgen.NewMeter(ctx, os.Getpid(), nil)
	own.Begin(ctx)
	tally, err := s.clients.Run(ctx, e.load, loadgen.Only(toolCall(fastserver.Small)), l.watch(&e, s, 0, nil))
	if err != nil {
		return fmt.Errorf("the generator's ceiling: %w", err)
	}
	c := loadgen.Ceiling{Concurrency: atOnce, PerSecond: tally.Round().PerSecond}
	if u := own.End(ctx, tally.Requests()); u != nil {
		c.CPUUs = u.CPUUs
	}
	l.report.Ceiling = append(l.report.Ceiling, c)
	return nil
}

// result makes the figures of an experiment.
func (e *experiment) result() *loadgen.Run {
	run := &loadgen.Run{Name: e.name, Load: e.load, Problems: e.problems}
	byRole := make(map[loadgen.Role]*loadgen.Result)
	for _, s := range e.subjects {
		run.Targets = append(run.Targets, s.result())
	}
	for i := range run.Targets {
		t := &run.Targets[i]
		byRole[t.Role] = t
		run.Problems = append(run.Problems, problems(t)...)
	}
	run.Valid = len(run.Problems) == 0
	direct, daemon, again := byRole[loadgen.RoleDirect], byRole[loadgen.RoleDaemon], byRole[loadgen.RoleAgain]
	switch {
	case direct != nil && daemon != nil:
		run.Ratios = append(loadgen.Compare(daemon, direct, again), loadgen.Compare(again, daemon, nil)...)
	case daemon != nil && again != nil:
		run.Ratios = loadgen.Compare(again, daemon, nil)
	case again != nil:
		run.Ratios = loadgen.Compare(again, direct, nil)
	}
	return run
}

// problems says why the figures of a target are not to be used.
func problems(t *loadgen.Result) (all []string) {
	sum := &t.Sum
	if sum.Failed > 0 {
		all = append(all, fmt.Sprintf("%s: %d of %d calls failed; the first one: %s", t.Name, sum.Failed, sum.Requests, sum.FirstFault))
	}
	if c := t.Streams; c != nil && c.Alive < c.Opened {
		all = append(all, fmt.Sprintf("%s: %d of %d streams ended", t.Name, c.Opened-c.Alive, c.Opened))
	}
	if meant := sum.Requests + sum.Dropped; float64(sum.Late+sum.Dropped) > maxUnsent*float64(meant) {
		all = append(all, fmt.Sprintf("%s: of %d calls %d were sent late and %d not at all, which is over 1 %%: the rate is too high for this machine, or --concurrency too low",
			t.Name, meant, sum.Late, sum.Dropped))
	}
	return all
}

// result sums up the rounds of a subject.
func (s *subject) result() loadgen.Result {
	r := loadgen.Result{Name: s.name, Role: s.role, Era: s.target.Era.String(), Transport: s.target.Transport(), Program: s.program, Rounds: s.rounds, Streams: s.idle}
	r.Sum = loadgen.Sum(s.tallies...).Round()
	r.Sum.Process, r.Sum.Generator = usage(s.rounds, func(r loadgen.Round) *loadgen.Usage { return r.Process }), usage(s.rounds, func(r loadgen.Round) *loadgen.Usage { return r.Generator })
	for _, round := range s.rounds {
		if c := round.Processes; c != nil {
			r.Sum.Processes = mostOf(r.Sum.Processes, c)
		}
		if c := round.Server; c != nil {
			if r.Sum.Server == nil {
				r.Sum.Server = new(loadgen.ServerCounts)
			}
			r.Sum.Server.Posts += c.Posts
			r.Sum.Server.Calls += c.Calls
			r.Sum.Server.Connections += c.Connections
			r.Sum.Server.MaxBatch = max(r.Sum.Server.MaxBatch, c.MaxBatch)
		}
	}
	return r
}

// mostOf returns the most of each count; a is nil before the first one.
func mostOf(a, b *loadgen.ProcessCounts) *loadgen.ProcessCounts {
	if a == nil {
		a = b
	}
	return &loadgen.ProcessCounts{
		Listed: max(a.Listed, b.Listed), ListedPSS: max(a.ListedPSS, b.ListedPSS),
		Called: max(a.Called, b.Called), CalledPSS: max(a.CalledPSS, b.CalledPSS), DaemonPSS: max(a.DaemonPSS, b.DaemonPSS),
	}
}

// usage adds up what a process took: sums of CPU, means by call, the most memory. It is nil where a round does not know it.
func usage(rounds []loadgen.Round, of func(loadgen.Round) *loadgen.Usage) *loadgen.Usage {
	sum, calls := new(loadgen.Usage), 0.0
	for _, r := range rounds {
		u, n := of(r), float64(r.Requests)
		if u == nil {
			return nil
		}
		calls += n
		sum.CPUSeconds += u.CPUSeconds
		sum.Allocs += u.Allocs * n
		sum.AllocBytes += u.AllocBytes * n
		sum.RSS, sum.PeakRSS = u.RSS, max(sum.PeakRSS, u.PeakRSS)
	}
	if calls == 0 {
		return nil
	}
	sum.CPUUs, sum.Allocs, sum.AllocBytes = sum.CPUSeconds*1e6/calls, sum.Allocs/calls, sum.AllocBytes/calls
	return sum
}
