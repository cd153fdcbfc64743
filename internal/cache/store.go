package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// StoreOptions are what the tiers of one daemon are made of.
type StoreOptions struct {
	Memory  memory.Options
	State   *State          // required: the partition key, and what is kept over a restart. The Store saves it and does not close it
	Inert   []string        // `cache.inert_headers`
	Base    context.Context // the daemon's: its end, with its cause, ends what goes on without an agent; nil: no end
	Buffers *mcp.BufferPool // nil: none is used again
	Metrics *Metrics        // nil: not shown
	Log     *slog.Logger    // nil: silent
}

// Store is the tiers of one daemon, for all upstreams. Make the upstreams' stages before the first call.
type Store struct {
	memory     *memory.Tier
	bumpMemory func([]tier.Generation) // memory.Tokens.Bump
	slow       []*behind
	state      *State
	sealer     *sealer
	packer     *packer
	partitions partitioner
	buffers    *mcp.BufferPool
	metrics    *Metrics
	log        *slog.Logger
	maxEntry   int

	upstreams []*Upstream
	servers   map[string]*serverState // by identity

	life context.Context // of what runs in the background
	end  context.CancelCauseFunc
	work context.Context // of the tiers' workers
	stop context.CancelFunc
	trip context.Context // of the trips that they make
	halt context.CancelFunc

	mu     sync.Mutex // guards the following
	closed bool
	times  map[string]*mcp.RecentTimes // by upstream
	wg     sync.WaitGroup
	room   chan struct{} // bounds what runs in the background
}

// behind is a tier behind memory, with its label.
type behind struct {
	*worker.Worker
	label int
}

// maxBackground is how many calls may go on without an agent.
const maxBackground = 256

// NewStore makes the store with memory alone.
func NewStore(o StoreOptions) (*Store, error) {
	if o.State == nil {
		return nil, errors.New("cache: a State is required")
	}
	o.Memory.Head = entryHead
	held, err := memory.New(o.Memory)
	if err != nil {
		return nil, err
	}
	packer, err := newPacker(entryHead + held.MaxEntry())
	if err != nil {
		return nil, err
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Base == nil {
		o.Base = context.Background()
	}
	s := &Store{
		memory: held, state: o.State, sealer: newSealer(o.State.Secret()), packer: packer, buffers: o.Buffers, metrics: o.Metrics,
		log: logger(o.Log), maxEntry: held.MaxEntry(),
		partitions: newPartitioner(o.State.Secret(), o.Inert), room: make(chan struct{}, maxBackground),
		servers: make(map[string]*serverState),
	}
	s.bumpMemory = held.Tokens.Bump
	s.life, s.end = context.WithCancelCause(o.Base)
	s.work, s.stop = context.WithCancel(context.Background())
	s.trip, s.halt = context.WithCancel(context.Background())
	o.Metrics.mu.Lock()
	defer o.Metrics.mu.Unlock()
	o.Metrics.stores = append(o.Metrics.stores, s)
	return s, nil
}

// Add adds a tier behind those that are there, and starts its worker. No call has been made yet. The Store closes it.
func (s *Store) Add(o worker.Options) {
	t := &behind{worker.New(o), tierLabel(o.Tier.Name())}
	s.mu.Lock()
	s.slow = append(s.slow, t)
	s.mu.Unlock()
	if !s.state.Waits() {
		s.resume(t)
	}
	for _, u := range s.upstreams {
		u.metrics.add(t.label)
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		t.Run(s.work, s.trip)
	}()
	if t.Pending() {
		t.AwaitStart() // so that the first answers are kept there
	}
}

// resume makes up for what earlier runs may not have told a tier: one of this daemon alone is made new as a whole, and a
// shared one is told of all families of the upstreams that there are. See Upstream for those to come.
func (s *Store) resume(t *behind) {
	if !t.Shared {
		if !s.state.complete(t.ID) {
			t.InvalidateAll()
		}
		return
	}
	for _, u := range s.upstreams {
		s.resumeFor(t, u)
	}
}

func (s *Store) resumeFor(t *behind, u *Upstream) {
	if t.Shared && s.state.untold(t.ID) {
		t.Invalidate(u.families[:], u.families[:])
	}
}

// Join takes the state directory that another daemon had when this one started (AwaitState), and with it what that one left:
// which tiers are to be told, and known credentials. The error is ErrStateInUse while it still has it. The embedded tier is not
// to be opened before. It is called by one goroutine, when the tiers and upstreams are there, and has ended before Close.
func (s *Store) Join() error {
	if err := s.state.join(); err != nil {
		return err
	}
	for _, t := range s.slow {
		s.resume(t)
	}
	for identity, server := range s.servers {
		server.seen.inherit(s.state.credentials(identity))
	}
	return nil
}

// partition returns whose call it is.
func (s *Store) partition(c *mcp.Call) Partition {
	buf := s.buffers.Get(512)
	asker, buf := s.partitions.of(c.Header, c.Query, buf)
	s.buffers.Put(buf)
	return asker
}

// bearer returns by what the things of its caller are dropped.
func (s *Store) bearer(c *mcp.Call) Partition {
	buf := s.buffers.Get(512)
	bearer, buf := s.partitions.bearer(c.Header, c.Query, buf)
	s.buffers.Put(buf)
	return bearer
}

// Partition names who makes the call: an HMAC over the query and all headers, as they go upstream, but the inert ones, the
// same for equal ones as long as the partition key is. Callers without any are one. It is not to be stored or shown: it
// guards what was cached.
func (s *Store) Partition(c *mcp.Call) [32]byte { return s.partition(c) }

// linked reports whether every tier that other daemons share hears what they bump.
func (s *Store) linked() bool {
	for _, t := range s.slow {
		if !t.Linked() {
			return false
		}
	}
	return true
}

// bump makes generations old: in memory before it returns, in the tiers soon. Until a tier has been told it is not read
// for them.
func (s *Store) bump(families []tier.Generation, generations ...tier.Generation) {
	s.bumpMemory(generations)
	for _, t := range s.slow {
		t.Invalidate(generations, families)
	}
}

// Listener is what shared tiers are to be given: what another daemon bumps is stale in memory, and after a lost link
// everything in memory is. After a move everything is told again. Nobody tells another tier of it: the daemon that makes a change tells all of them.
func (s *Store) Listener() tier.Listener {
	return tier.Listener{Bumped: s.bumpMemory, Lost: s.memory.Tokens.BumpAll, Moved: s.tellAll}
}

// tellAll tells the shared tiers that all of every upstream is stale: one of them is at another server, and what the one before
// was told while no link stood is not known there, nor to the daemons that use it.
func (s *Store) tellAll() {
	workers, upstreams := s.parts()
	for _, t := range workers {
		for _, u := range upstreams {
			if t.Shared {
				t.Invalidate(u.families[:], u.families[:])
			}
		}
	}
}

// background runs f in a goroutine that Close waits for, and reports whether there was room.
func (s *Store) background(f func(life context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	select {
	case s.room <- struct{}{}:
	default:
		return false
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer func() { <-s.room }()
		f(s.life)
	}()
	return true
}

func (s *Store) discard(res *mcp.Result) {
	if err := res.Close(); err != nil {
		s.log.Debug("closing an answer", "error", err)
	}
}

// Close ends what goes on in the background, writes what waits for the tiers and tells them what is owed, closes them
// and saves the state, all within ctx. No call is under way and none comes after.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end(mcp.Draining())
	for _, u := range s.upstreams {
		u.changes.Close()
	}
	s.stop()
	late := context.AfterFunc(ctx, s.halt)
	s.wg.Wait()
	late()
	s.halt()
	told := make(map[string]bool)
	var errs error
	for _, t := range s.slow {
		told[t.ID] = t.Finish(ctx)
		errs = errors.Join(errs, t.Tier.Close())
	}
	s.packer.close()
	errs = errors.Join(errs, s.memory.Close())
	if errs != nil {
		return errs // the next start takes this for an end that was not clean
	}
	credentials := make(map[string]map[Partition]time.Time, len(s.servers))
	for identity, server := range s.servers {
		credentials[identity] = server.seen.all()
	}
	return s.state.save(credentials, told)
}

// parts are the tiers behind memory and the upstreams that there are by now.
func (s *Store) parts() ([]*behind, []*Upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow, s.upstreams
}

// Stats says what the tiers hold and what has become of requests. With detailed, it names the most used questions.
func (s *Store) Stats(_ context.Context, detailed bool) Stats {
	workers, upstreams := s.parts()
	out := Stats{Tiers: []TierReport{s.memoryReport()}, Upstreams: make([]UpstreamReport, 0, len(upstreams))}
	for _, t := range workers {
		out.Tiers = append(out.Tiers, s.tierReport(t))
	}
	for _, u := range upstreams {
		out.Upstreams = append(out.Upstreams, u.report(detailed))
	}
	slices.SortFunc(out.Upstreams, func(a, b UpstreamReport) int { return strings.Compare(a.Upstream, b.Upstream) })
	return out
}

func (s *Store) memoryReport() TierReport {
	held := s.memory.Holds()
	r := TierReport{Tier: s.memory.Name(), Entries: held.Entries, Bytes: held.Bytes, Evictions: held.Evictions}
	for _, u := range s.upstreams {
		r.Hits += u.metrics.counted(tierMemory, outcomeHit)
		r.Misses += u.metrics.counted(tierMemory, outcomeMiss)
		r.Written += u.metrics.counted(tierNone, outcomeStored)
	}
	return r
}

func (s *Store) tierReport(t *behind) TierReport {
	held := t.Holds()
	r := TierReport{Tier: t.Tier.Name(), Entries: held.Entries, Bytes: held.Bytes, Evictions: held.Evictions, Breaker: t.Breaker.State()}
	for _, u := range s.upstreams {
		r.Hits += u.metrics.counted(t.label, outcomeHit)
		r.Misses += u.metrics.counted(t.label, outcomeMiss)
		r.Errors += u.metrics.counted(t.label, outcomeError)
		r.Skipped += u.metrics.counted(t.label, outcomeSkipped)
	}
	w := t.Report()
	r.Written, r.Dropped, r.Queue, r.Owed = w.Written, w.Dropped+w.Failed, w.Queue, w.Pending
	switch {
	case w.Err != nil:
		r.Error = w.Err.Error()
	case !t.Linked():
		r.Error = unlinked
	}
	return r
}

// unlinked is what is wrong with a shared tier whose calls work while its link does not stand.
const unlinked = "changes that other daemons make are not heard: copies of what they share are not used"

// maxKeys is how many questions a detailed report names per upstream.
const maxKeys = 20

func (u *Upstream) report(detailed bool) UpstreamReport {
	m := u.metrics
	r := UpstreamReport{
		Upstream: u.opts.Name, Hits: make(map[string]uint64, tierNone), Misses: m.counted(tierMemory, outcomeMiss),
		Collapsed: m.counted(tierNone, outcomeCollapsed), Bypass: m.counted(tierNone, outcomeBypass),
		Stored: m.counted(tierNone, outcomeStored), Listening: u.changes.Streams(),
	}
	r.Hits[tierNames[tierMemory]] = m.counted(tierMemory, outcomeHit)
	r.Stale = m.counted(tierMemory, outcomeStale)
	for _, t := range u.store.slow {
		r.Hits[t.Tier.Name()] = m.counted(t.label, outcomeHit)
		r.Stale += m.counted(t.label, outcomeStale)
		r.Misses -= min(r.Misses, m.counted(t.label, outcomeHit)) // memory's misses that another tier made good
	}
	r.Misses -= min(r.Misses, r.Stale) // and those for which an expired answer stood in
	if scope := u.views.report(time.Now()); scope.Views > 0 {
		r.Scope = &scope
	}
	if detailed {
		r.Keys = u.keys()
	}
	return r
}

// keys are the most used questions.
func (u *Upstream) keys() []KeyReport {
	byKey := make(map[tier.Key]*KeyReport)
	u.questions.each(func(q *question) {
		if !q.keeps || q.hits.Load() == 0 {
			return
		}
		r := byKey[q.private.Key]
		if r == nil {
			r = &KeyReport{Method: q.name, Key: fmt.Sprintf("%x", q.private.Key[:8])}
			byKey[q.private.Key] = r
		}
		r.Hits += q.hits.Load()
		r.Bytes = max(r.Bytes, int(q.size.Load()))
	})
	all := slices.Collect(maps.Values(byKey))
	slices.SortFunc(all, func(a, b *KeyReport) int {
		if a.Hits != b.Hits {
			return int(min(b.Hits, 1<<30)) - int(min(a.Hits, 1<<30))
		}
		return strings.Compare(a.Key, b.Key)
	})
	out := make([]KeyReport, 0, maxKeys)
	for _, r := range all[:min(len(all), maxKeys)] {
		out = append(out, *r)
	}
	return out
}
