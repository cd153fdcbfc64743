// Package memory is the tier in this process, on bigcache. It keeps times and tokens itself: bigcache's own life window is one
// for all entries, and its Get hands out what has expired.
package memory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/allegro/bigcache/v3"

	"fluentd-perf/internal/cache/tier"
)

// Options size the tier.
type Options struct {
	Size     int64 // bytes, at least 1 MiB; 0: 128 MiB
	MaxEntry int64 // bytes; 0: 1 MiB, or a sixteenth of Size where that is less
	Head     int   // bytes of a value that Head returns
}

// Tier keeps what a tier.Tier keeps, by methods of its own with which the stage copies and allocates less. With those that its tests
// add it keeps the contract of tiers, too. It is safe for concurrent use.
type Tier struct {
	Tokens   *Tokens
	ring     *bigcache.BigCache
	hasher   hasher
	heads    heads
	head     int
	maxEntry int
	evicted  atomic.Int64
}

// New makes a Tier. The error says what cannot be about the sizes.
func New(o Options) (*Tier, error) {
	if o.Size == 0 {
		o.Size = 128 << 20
	}
	if o.Size < 1<<20 {
		return nil, fmt.Errorf("cache: %d bytes of memory are less than 1 MiB", o.Size)
	}
	if o.MaxEntry == 0 {
		o.MaxEntry = min(1<<20, o.Size/16)
	}
	if o.MaxEntry < 1 || o.MaxEntry > o.Size/8 {
		return nil, errors.New("cache: an entry may take a byte at least, and an eighth of the memory at most")
	}
	m := &Tier{hasher: hasher{maphash.MakeSeed()}, Tokens: newTokens(), maxEntry: int(o.MaxEntry), head: o.Head}
	ring, err := bigcache.New(context.Background(), bigcache.Config{
		Shards:           shardsFor(o),
		LifeWindow:       tier.MaxLife,
		CleanWindow:      time.Minute,
		HardMaxCacheSize: int(o.Size >> 20),
		// Only what is asked for: the defaults would take 300 MB at once.
		MaxEntriesInWindow: 1024, MaxEntrySize: 256,
		Hasher:             m.hasher,
		OnRemoveWithReason: m.removed,
	})
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	m.ring = ring
	return m, nil
}

// shardsFor returns a power of two from 1 to 64 that leaves room for many of the largest entries in a shard: bigcache
// evicts whatever is in the place of a new one.
func shardsFor(o Options) int {
	fit := min(64, max(1, o.Size/(8*o.MaxEntry)))
	return 1 << (bits.Len64(uint64(fit)) - 1)
}

// hasher is seeded, so that nobody can aim keys at one another.
type hasher struct{ seed maphash.Seed }

func (h hasher) Sum64(s string) uint64 { return maphash.String(h.seed, s) }

// removed is called for every entry that leaves the ring, but for one that another replaces.
func (m *Tier) removed(key string, _ []byte, why bigcache.RemoveReason) {
	m.heads.forget(m.hasher.Sum64(key))
	if why == bigcache.NoSpace {
		m.evicted.Add(1)
	}
}

// text is a key as bigcache wants it, which does not keep it: it shares the key's memory.
func text(k *tier.Key) string { return unsafe.String(&k[0], len(k)) }

// MaxEntry is how many bytes a value may have.
func (m *Tier) MaxEntry() int { return m.maxEntry }

// Get returns a copy of the value under the lookup's key, if its tokens hold and it has not expired; else nil.
func (m *Tier) Get(l *tier.Lookup, now time.Time) []byte {
	var room [tier.MaxGuards]tier.Token
	value, tokens, _ := m.find(l, now, room[:0])
	if value == nil || !m.Tokens.Hold(l.Generations, tokens) {
		return nil
	}
	return value
}

// A stored entry is its expiry in milliseconds (8 bytes), the number of its tokens (1), the tokens (8 each) and the value.
const (
	tokensAt  = 8 + 1
	tokenSize = 8
)

// Prefix is how many bytes Put wants before a value that so many tokens guard.
func Prefix(tokens int) int { return tokensAt + tokenSize*tokens }

// find returns a copy of the value under the lookup's key, if it has not expired: with the tokens under which it was
// written, in the room for them, and the time until which it lives, in milliseconds.
func (m *Tier) find(l *tier.Lookup, now time.Time, room []tier.Token) (value []byte, tokens []tier.Token, expires int64) {
	stored, err := m.ring.Get(text(&l.Key))
	if err != nil || len(stored) < tokensAt {
		return nil, nil, 0
	}
	n := int(stored[tokensAt-1])
	expires = int64(binary.BigEndian.Uint64(stored))
	if n != len(l.Generations) || len(stored) < Prefix(n) || now.UnixMilli() >= expires {
		return nil, nil, 0
	}
	tokens = room[:0]
	for i := range n {
		tokens = append(tokens, tier.Token(binary.BigEndian.Uint64(stored[Prefix(i):])))
	}
	return stored[Prefix(n):], tokens, expires
}

// Put stores a copy of one value and reports whether it did: not if it is over the size cap or a token does not hold. Before
// the value are Prefix bytes for Put to write to.
//
// The tokens' lock is held meanwhile, so that a bump comes before the check or after the entry, which is then never served.
func (m *Tier) Put(k *tier.Key, entry []byte, expires time.Time, guard *tier.Guard) (bool, error) {
	n := len(guard.Tokens)
	if n == 0 || n > tier.MaxGuards || len(entry)-Prefix(n) > m.maxEntry {
		return false, nil
	}
	binary.BigEndian.PutUint64(entry, uint64(expires.UnixMilli()))
	entry[tokensAt-1] = byte(n)
	for i, t := range guard.Tokens {
		binary.BigEndian.PutUint64(entry[Prefix(i):], uint64(t))
	}
	m.Tokens.keep(guard)
	m.Tokens.mu.RLock()
	defer m.Tokens.mu.RUnlock()
	if !m.Tokens.holdLocked(guard.Generations, guard.Tokens) {
		return false, nil
	}
	err := m.ring.Set(text(k), entry)
	m.heads.forget(m.hasher.Sum64(text(k))) // of the entry before
	return err == nil, err
}

// Holds is what is held; entries that are stale but not yet thrown out are included.
func (m *Tier) Holds() tier.Stats {
	return tier.Stats{Entries: int64(m.ring.Len()), Bytes: int64(m.ring.Capacity()), Evictions: m.evicted.Load()}
}

// Close frees the memory.
func (m *Tier) Close() error { return m.ring.Close() }
