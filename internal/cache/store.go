package cache

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"

	"golang.org/x/sync/errgroup"
)

// StoreOptions are what the tiers of one daemon are made of.
type StoreOptions struct {
	Memory  memory.Options
	State   *State          // required: the partition key, and what is kept over a restart. The Store saves it and does not close it
	Inert   []string        // `cache.inert_headers`
	Base    context.Context // the daemon's: its end, with its cause, ends the calls that go on without an agent; nil: no end
	Buffers *mcp.BufferPool // nil: no buffer is used again
	Metrics *Metrics        // nil: not shown
	Log     *slog.Logger    // nil: silent
}

// Store is the tiers of one daemon, for all upstreams. The tiers are added before the first call.
type Store struct {
	memory     *memory.Tier
	bumpMemory func([]tier.Generation) // memory.Tokens.Bump
	slowTiers  []*slowTier
	state      *State
	sealer     *sealer
	packer     *packer
	partitions partitioner
	buffers    *mcp.BufferPool
	metrics    *Metrics
	log        *slog.Logger
	maxEntry   int

	lastCredentials [256]atomic.Pointer[credentialOf] // by the first byte of the principal

	times sync.Map       // of *mcp.RecentTimes, by upstream
	calls errgroup.Group // those that go on without an agent

	life context.Context // of what runs in the background
	end  context.CancelCauseFunc
	work context.Context // of the tiers' workers
	stop context.CancelFunc
	trip context.Context // of the trips that they make
	halt context.CancelFunc

	mu        sync.Mutex              // guards the following
	upstreams []*Stage                // the open ones. The list is replaced, not changed: parts hands it out
	servers   map[string]*serverState // by identity; none is ever removed
	closed    bool
	wg        sync.WaitGroup
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
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Base == nil {
		o.Base = context.Background()
	}
	s := &Store{
		memory: held, state: o.State, sealer: newSealer(o.State.secret), packer: packer, buffers: o.Buffers, metrics: o.Metrics,
		log: o.Log, maxEntry: held.MaxEntry(),
		partitions: newPartitioner(o.State.secret, o.Inert), servers: make(map[string]*serverState),
	}
	s.calls.SetLimit(maxBackground)
	s.bumpMemory = held.Tokens.Bump
	s.life, s.end = context.WithCancelCause(o.Base)
	s.work, s.stop = context.WithCancel(context.Background())
	s.trip, s.halt = context.WithCancel(context.Background())
	o.Metrics.scrape.add(s)
	return s, nil
}

// Add adds a tier behind those that are there, and starts its worker. No call has been made yet. The Store closes it.
func (s *Store) Add(o worker.Options) {
	t := &slowTier{worker.New(o), tierLabel(o.Tier.Name())}
	s.mu.Lock()
	s.slowTiers = append(s.slowTiers, t)
	s.mu.Unlock()
	if !s.state.Waits() {
		s.resume(t)
	}
	_, upstreams := s.parts()
	for _, u := range upstreams {
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

// resume tells a tier what earlier runs may not have told it: one of this daemon alone is invalidated as a whole, and a shared one
// is told of all families of the upstreams that there are. Stage does it for those that are added later.
func (s *Store) resume(t *slowTier) {
	if !t.Shared {
		if !s.state.complete(t.ID) {
			t.InvalidateAll()
		}
		return
	}
	_, upstreams := s.parts()
	for _, u := range upstreams {
		s.resumeFor(t, u)
	}
}

func (s *Store) resumeFor(t *slowTier, u *Stage) {
	if t.Shared && s.state.untold(t.ID) {
		t.Invalidate(u.families[:], u.families[:])
	}
}

// Join takes the state directory that another daemon had when this one started (State.Waits), and with it what that one left:
// which tiers have pending invalidations, and known credentials. It is not done while that still has it. The embedded tier is not
// to be opened before. It is called by one goroutine, when the tiers and upstreams are there, and has ended before Close.
func (s *Store) Join() (done bool, err error) {
	if done, err := s.state.join(); err != nil {
		return done, err
	}
	for _, t := range s.slowTiers {
		s.resume(t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for identity, server := range s.servers {
		server.credentials.inherit(s.state.credentials(identity))
	}
	return true, nil
}

// Partition names who makes the call: an HMAC over the query and all headers, as they go upstream, but the inert ones, the
// same for equal ones as long as the partition key is. Callers without any are one. It is not to be stored or shown: it
// guards what was cached.
func (s *Store) Partition(c *mcp.Call) [32]byte {
	if c.Own.Known {
		return c.Own.Partition
	}
	return s.hash(c, s.partitions.of)
}

// credential returns the HMAC over what can bear a credential alone: by it entries are invalidated, see partitioner.credential. All of
// that is in what makes the principal, so that the last one of a principal is its next one.
func (s *Store) credential(c *mcp.Call, principal partition) partition {
	last := &s.lastCredentials[principal[0]]
	if known := last.Load(); known != nil && known.principal == principal {
		return known.credential
	}
	known := &credentialOf{principal, s.hash(c, s.partitions.credential)}
	last.Store(known)
	return known.credential
}

// credentialOf is the credential of a principal.
type credentialOf struct{ principal, credential partition }

// hash makes one of the two HMACs in a pooled buffer.
func (s *Store) hash(c *mcp.Call, of func(h header.List, query string, buf []byte) (partition, []byte)) partition {
	p, buf := of(c.Header, c.Query, s.buffers.Get(512))
	s.buffers.Put(buf)
	return p
}

// linked reports whether every tier that other daemons share receives their changes.
func (s *Store) linked() bool {
	return !slices.ContainsFunc(s.slowTiers, func(t *slowTier) bool { return !t.Linked() })
}

// bump invalidates what depends on the generations: in memory before it returns, in the slow tiers soon. Until a tier has been told
// it is not read for them.
func (s *Store) bump(families []tier.Generation, generations ...tier.Generation) {
	s.bumpMemory(generations)
	for _, t := range s.slowTiers {
		t.Invalidate(generations, families)
	}
}

// Listener returns what shared tiers call: what another daemon bumps becomes stale in memory, and after a lost link everything in
// memory does. After a move everything is told again. It is not passed on to another tier: the daemon that makes a change tells all
// of them.
func (s *Store) Listener() tier.Listener {
	return tier.Listener{Bumped: s.bumpMemory, Lost: s.memory.Tokens.BumpAll, Moved: s.invalidateTiers}
}

// invalidateTiers tells the shared tiers that all of every upstream is stale: one of them is at another server, and what the one before
// was told while no link stood is not known there, nor to the daemons that use it.
func (s *Store) invalidateTiers() {
	s.mu.Lock()
	servers := slices.Collect(maps.Values(s.servers)) // those of upstreams that are closed, too: they may come again
	s.mu.Unlock()
	for _, t := range s.slowTiers {
		for _, server := range servers {
			if t.Shared {
				t.Invalidate(server.families[:], server.families[:])
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
	return s.calls.TryGo(func() error {
		f(s.life)
		return nil
	})
}

func (s *Store) discard(res *mcp.Result) {
	if err := res.Close(); err != nil {
		s.log.Debug("closing an answer", "error", err)
	}
}

// Close ends what goes on in the background, writes what waits for the tiers and sends them pending invalidations, closes them
// and saves the state, all within ctx. No call is under way and none comes after.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	upstreams := s.upstreams
	s.mu.Unlock()
	s.end(mcp.Draining())
	for _, u := range upstreams {
		u.listener.Close()
	}
	s.stop()
	late := context.AfterFunc(ctx, s.halt)
	s.wg.Wait()
	_ = s.calls.Wait() // none fails
	late()
	s.halt()
	told := make(map[string]bool)
	var errs error
	for _, t := range s.slowTiers {
		told[t.ID] = t.Finish(ctx)
		errs = errors.Join(errs, t.Tier.Close())
	}
	s.packer.close()
	errs = errors.Join(errs, s.memory.Close())
	if errs != nil {
		return errs // the state is not saved: the next start takes this for an unclean end
	}
	credentials := make(map[string]map[partition]time.Time, len(s.servers))
	for identity, server := range s.servers {
		credentials[identity] = server.credentials.all()
	}
	return s.state.save(credentials, told)
}
