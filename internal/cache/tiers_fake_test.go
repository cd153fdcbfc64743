package cache_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// rigDisk is what a tier keeps, over restarts and for several daemons: the contract in its simplest form.
type rigDisk struct {
	mu      sync.Mutex // guards the following
	entries map[tier.Key]tier.Write
	tokens  map[tier.Generation]tier.Token
}

func newRigDisk() *rigDisk {
	return &rigDisk{entries: make(map[tier.Key]tier.Write), tokens: make(map[tier.Generation]tier.Token)}
}

func (d *rigDisk) read(lookups []tier.Lookup) []tier.Found {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := make([]tier.Found, len(lookups))
	for i, l := range lookups {
		for _, g := range l.Generations {
			if d.tokens[g] == 0 {
				d.tokens[g] = tier.Token(1 + rand.Uint64N(1<<63))
			}
			found[i].Tokens = append(found[i].Tokens, d.tokens[g])
		}
		if w, ok := d.entries[l.Key]; ok && slices.Equal(w.Guard.Tokens, found[i].Tokens) && time.Now().Before(w.Expires) {
			found[i].Value, found[i].Expires = slices.Clone(w.Value), w.Expires
		}
	}
	return found
}

func (d *rigDisk) write(writes []tier.Write) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.entries, func(_ tier.Key, w tier.Write) bool { return time.Since(w.Expires) > time.Minute })
	for _, w := range writes {
		if n := len(w.Guard.Generations); n != len(w.Guard.Tokens) || n < 1 || n > tier.MaxGuards {
			panic("a write that breaks the contract of tiers")
		}
		holds := true
		for i, g := range w.Guard.Generations {
			holds = holds && d.tokens[g] == w.Guard.Tokens[i]
		}
		if holds {
			w.Value, w.Guard.Tokens = slices.Clone(w.Value), slices.Clone(w.Guard.Tokens)
			d.entries[w.Key] = w
		}
	}
}

func (d *rigDisk) bump(generations []tier.Generation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range generations {
		delete(d.tokens, g)
	}
}

func (d *rigDisk) bumpAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.tokens)
}

func (d *rigDisk) delete(keys []tier.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range keys {
		delete(d.entries, k)
	}
}

func (d *rigDisk) keys() []tier.Key {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.entries))
}

// change lets f change the stored entries.
func (d *rigDisk) change(f func(k tier.Key, w *tier.Write)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, w := range d.entries {
		f(k, &w)
		d.entries[k] = w
	}
}

// rigFate is what becomes of one call of a tier.
type rigFate int

const (
	rigWorks  rigFate = iota
	rigFails          // it does nothing and says so
	rigLoses          // it does nothing and says it did: only of a write
	rigMutes          // it does it, and the answer is lost
	rigHangs          // it does nothing until the context ends
	rigDelays         // it hangs, and does it when nobody waits any more
	rigLate           // it hangs, and does it at the test's word
)

var errRig = errors.New("the tier is in trouble")

// rigOp is a call that a tier had.
type rigOp struct {
	name        string // read, write, bump, bumpall, delete
	keys        []tier.Key
	generations []tier.Generation
	bytes       int
}

// rigTier is one daemon's way to a disk.
type rigTier struct {
	disk *rigDisk
	name string

	mu     sync.Mutex // guards the following
	ops    []rigOp
	count  map[string]int                      // of ops by name
	fate   func(op rigOp, n int) rigFate       // nil: it works. n counts the calls of that name from 1
	wait   func(ctx context.Context, op rigOp) // before it is done; nil: at once
	mangle func(found []tier.Found) []tier.Found
	bumped func([]tier.Generation) // tells other daemons
	late   []func()                // what is to be done at the test's word
	closed int
}

func newRigTier(name string, d *rigDisk) *rigTier {
	return &rigTier{disk: d, name: name, count: map[string]int{}}
}

func (t *rigTier) set(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

func (t *rigTier) Name() string { return t.name }

// enter notes the call, lets time go by and says what becomes of it.
func (t *rigTier) enter(ctx context.Context, op rigOp, do func()) error {
	t.mu.Lock()
	t.ops = append(t.ops, op)
	t.count[op.name]++
	n, fate, wait := t.count[op.name], rigWorks, t.wait
	if t.fate != nil {
		fate = t.fate(op, n)
	}
	t.mu.Unlock()
	if wait != nil {
		wait(ctx, op)
	}
	switch fate {
	case rigFails:
		return errRig
	case rigLoses:
		return nil
	case rigMutes:
		do()
		return errRig
	case rigHangs:
		<-ctx.Done()
		return ctx.Err()
	case rigDelays:
		<-ctx.Done()
		do()
		return ctx.Err()
	case rigLate:
		<-ctx.Done()
		t.set(func() { t.late = append(t.late, do) })
		return ctx.Err()
	}
	do()
	return nil
}

func (t *rigTier) Read(ctx context.Context, lookups []tier.Lookup) (found []tier.Found, err error) {
	op := rigOp{name: "read"}
	for _, l := range lookups {
		op.keys = append(op.keys, l.Key)
		op.generations = append(op.generations, l.Generations...)
	}
	err = t.enter(ctx, op, func() { found = t.disk.read(lookups) })
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mangle != nil {
		found = t.mangle(found)
	}
	return found, nil
}

func (t *rigTier) Write(ctx context.Context, writes []tier.Write) error {
	op := rigOp{name: "write"}
	for _, w := range writes {
		op.keys = append(op.keys, w.Key)
		op.bytes += len(w.Value)
	}
	return t.enter(ctx, op, func() { t.disk.write(writes) })
}

func (t *rigTier) Bump(ctx context.Context, generations []tier.Generation) error {
	return t.enter(ctx, rigOp{name: "bump", generations: slices.Clone(generations)}, func() {
		t.disk.bump(generations)
		if t.bumped != nil {
			t.bumped(slices.Clone(generations))
		}
	})
}

func (t *rigTier) Delete(ctx context.Context, keys []tier.Key) error {
	return t.enter(ctx, rigOp{name: "delete", keys: slices.Clone(keys)}, func() { t.disk.delete(keys) })
}

func (t *rigTier) Close() error {
	t.set(func() { t.closed++ })
	return nil
}

// did returns the calls of that name so far.
func (t *rigTier) did(name string) (ops []rigOp) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, op := range t.ops {
		if op.name == name {
			ops = append(ops, op)
		}
	}
	return ops
}

// gate holds the tier's calls of these names until the returned function is called.
func (t *rigTier) gate(names ...string) (open func()) {
	gate := make(chan struct{})
	t.set(func() {
		t.wait = func(_ context.Context, op rigOp) {
			if slices.Contains(names, op.name) {
				<-gate
			}
		}
	})
	return func() {
		t.set(func() { t.wait = nil })
		close(gate)
		synctest.Wait()
	}
}

// order returns the names of all calls but reads so far, as "bump delete write".
func (t *rigTier) order() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for _, op := range t.ops {
		if op.name != "read" {
			names = append(names, op.name)
		}
	}
	return strings.Join(names, " ")
}

// always makes a fate of one for calls of these names.
func always(f rigFate, names ...string) func(rigOp, int) rigFate {
	return func(op rigOp, _ int) rigFate {
		if slices.Contains(names, op.name) {
			return f
		}
		return rigWorks
	}
}

// rigFile is a tier of one daemon alone.
type rigFile struct{ *rigTier }

func (t rigFile) Holds() tier.Stats {
	return tier.Stats{Entries: int64(len(t.disk.keys())), Bytes: -1, Evictions: -1}
}

func (t rigFile) BumpAll(ctx context.Context) error {
	return t.enter(ctx, rigOp{name: "bumpall"}, t.disk.bumpAll)
}

// rigLinked is a tier that receives what other daemons bump, or does not.
type rigLinked struct {
	*rigTier
	up *atomic.Bool
}

func (t rigLinked) Linked() bool { return t.up.Load() }

// rigBreaker is a simple breaker: three failures in a row open it for two seconds.
type rigBreaker struct {
	mu       sync.Mutex // guards the following
	held     bool       // open whatever comes
	row      int
	until    time.Time
	asked    int // Allow
	failures int
	ignored  int
	pending  int // allowed and not reported
}

func (b *rigBreaker) Allow(time.Duration) (func(error), bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.held || time.Now().Before(b.until) {
		return nil, false
	}
	b.pending++
	return b.done, true
}

func (b *rigBreaker) done(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending--
	switch {
	case errors.Is(err, context.Canceled):
		b.ignored++
	case err != nil:
		b.failures++
		if b.row++; b.row >= 3 {
			b.until = time.Now().Add(2 * time.Second)
		}
	default:
		b.row = 0
	}
}

func (b *rigBreaker) State() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held || time.Now().Before(b.until) {
		return "open"
	}
	return "closed"
}

func (b *rigBreaker) hold(open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = open
}
