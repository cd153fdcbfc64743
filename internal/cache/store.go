package cache

import (
	"context"
	"errors"
	"log/slog"
	"net/textproto"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// Breaker keeps a tier that fails from costing every call its timeout. See internal/breaker.
type Breaker interface {
	// Allow returns what is told how it went, or false while the tier is not to be asked.
	Allow() (done func(error), ok bool)
	// State is closed, open or half-open.
	State() string
}

// SlowTier is a tier beyond memory.
type SlowTier struct {
	Tier    Tier
	Timeout time.Duration // of one read
	Breaker Breaker

	PrivateReads bool // holds private answers of resources/read too
	MaxEntry     int  // bytes; 0: no bound
}

// StoreOptions are what the tiers of one daemon are made of. Secret is required.
type StoreOptions struct {
	Memory  MemoryOptions
	Slow    []SlowTier // in the order in which they are asked
	Secret  *Secret
	Inert   []string // `cache.inert_headers`
	Buffers *mcp.BufferPool
	Metrics *Metrics
	Log     *slog.Logger
}

// Store is the tiers of one daemon, for all upstreams.
type Store struct {
	memory     *Memory
	slow       []*slowTier
	secret     *Secret
	partitions partitioner
	buffers    *mcp.BufferPool
	metrics    *Metrics
	log        *slog.Logger

	life   context.Context // of what runs in the background
	end    context.CancelFunc
	mu     sync.Mutex // guards closed
	closed bool
	wg     sync.WaitGroup
	room   chan struct{} // bounds what runs in the background
}

// maxBackground is how many calls may go on without an agent.
const maxBackground = 256

// NewStore makes the tiers' store and starts the write-behind.
func NewStore(o StoreOptions) (*Store, error) {
	if o.Secret == nil {
		return nil, errors.New("cache: a Secret is required")
	}
	memory, err := NewMemory(o.Memory)
	if err != nil {
		return nil, err
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	s := &Store{
		memory: memory, secret: o.Secret, buffers: o.Buffers, metrics: o.Metrics, log: logger(o.Log),
		partitions: partitioner{secret: o.Secret, inert: make(map[string]bool, len(o.Inert))},
		room:       make(chan struct{}, maxBackground),
	}
	for _, name := range o.Inert {
		s.partitions.inert[textproto.CanonicalMIMEHeaderKey(name)] = true
	}
	s.life, s.end = context.WithCancel(context.Background())
	for _, t := range o.Slow {
		s.slow = append(s.slow, s.newSlowTier(t))
	}
	return s, nil
}

// fromMemory returns the entry that memory has for a plan, expired ones included, or nil. Later pages count only while
// the first one is there and fresh.
func (s *Store) fromMemory(u *Upstream, p *plan, now time.Time) *entry {
	if p.first != nil && s.fromMemory(u, p.first, now) == nil {
		return nil
	}
	if v := s.memory.get(p.private.Key, p.private.Generations, now); v != nil {
		if e := new(entry); e.decode(v) == nil && !e.public {
			return e
		}
	}
	if v := s.memory.get(p.public.Key, p.public.Generations, now); v != nil && u.seen.known(p.asker, now) {
		if e := new(entry); e.decode(v) == nil && e.public {
			return e
		}
	}
	return nil
}

// bump makes generations old in memory and then in every tier, and returns what failed. A tier that could not be told is
// not read for them until it has been.
func (s *Store) bump(ctx context.Context, generations []Generation) error {
	s.memory.tokens.bump(generations)
	var errs error
	for _, t := range s.slow {
		t.owe(generations)
		errs = errors.Join(errs, t.settle(ctx))
	}
	return errs
}

// bumpNow makes generations old in memory before it returns, and in the tiers soon.
func (s *Store) bumpNow(generations []Generation) {
	s.memory.tokens.bump(generations)
	for _, t := range s.slow {
		t.owe(generations)
	}
}

// Listener is what shared tiers tell.
func (s *Store) Listener() Listener {
	return Listener{Bumped: s.memory.tokens.bump, Lost: s.memory.tokens.forget}
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

// refresh fetches an answer that nobody waits for.
func (s *Store) refresh(c *mcp.Call, next mcp.Caller) {
	s.background(func(life context.Context) {
		res, err := next.Call(life, c)
		if err != nil {
			s.log.Debug("refreshing an answer", "upstream", c.Upstream, "error", err)
			return
		}
		s.discard(res)
	})
}

func (s *Store) discard(res *mcp.Result) {
	if err := res.Close(); err != nil {
		s.log.Debug("closing an answer", "error", err)
	}
}

// Close writes what waits for the tiers, tells them what is owed, and closes them, all within ctx. It returns what could
// not be told: the caller keeps it for the next start.
func (s *Store) Close(ctx context.Context) (map[string][]Generation, error) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.wg.Wait()
	owed := map[string][]Generation{}
	var errs error
	for _, t := range s.slow {
		if left := t.stop(ctx); len(left) > 0 {
			owed[t.Tier.Name()] = left
		}
		errs = errors.Join(errs, t.Tier.Close())
	}
	return owed, errors.Join(errs, s.memory.Close())
}
