package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/allegro/bigcache/v3"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// MemoryOptions size the memory tier.
type MemoryOptions struct {
	Size     int64 // bytes, at least 1 MiB; 0: 128 MiB
	MaxEntry int64 // bytes; 0: 1 MiB, or a sixteenth of Size where that is less
}

// Memory is the tier in this process, on bigcache. It keeps times and tokens itself: bigcache's own life window is one for
// all entries, and its Get hands out what has expired.
type Memory struct {
	ring     *bigcache.BigCache
	hasher   hasher
	heads    heads
	tokens   *tokens
	buffers  mcp.BufferPool
	maxEntry int
	evicted  atomic.Int64
}

const (
	memoryHead = 8 + 1          // expiry, number of tokens
	maxLife    = 49 * time.Hour // more than any entry lives: fresh for a day, stale for another
)

// NewMemory makes a Memory. The error says what cannot be about the sizes.
func NewMemory(o MemoryOptions) (*Memory, error) {
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
	m := &Memory{hasher: hasher{maphash.MakeSeed()}, tokens: newTokens(), maxEntry: int(o.MaxEntry)}
	ring, err := bigcache.New(context.Background(), bigcache.Config{
		Shards:           shardsFor(o),
		LifeWindow:       maxLife,
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
// throws out whatever is in the way of a new one.
func shardsFor(o MemoryOptions) int {
	fit := min(64, max(1, o.Size/(8*o.MaxEntry)))
	return 1 << (bits.Len64(uint64(fit)) - 1)
}

// hasher is seeded, so that nobody can aim keys at one another.
type hasher struct{ seed maphash.Seed }

func (h hasher) Sum64(s string) uint64 { return maphash.String(h.seed, s) }

// removed is called for every entry that leaves the ring, but for one in whose place another comes.
func (m *Memory) removed(key string, _ []byte, why bigcache.RemoveReason) {
	m.heads.forget(m.hasher.Sum64(key))
	if why == bigcache.NoSpace {
		m.evicted.Add(1)
	}
}

// text is a key as bigcache wants it, which does not keep it: it shares the key's memory.
func text(k *tier.Key) string { return unsafe.String(&k[0], len(k)) }

// Name returns "memory".
func (m *Memory) Name() string { return "memory" }

// look returns a copy of the value under the lookup's key, if its tokens hold and it has not expired.
func (m *Memory) look(l *tier.Lookup, now time.Time) []byte {
	var room [tier.MaxGuards]tier.Token
	value, tokens, _ := m.find(l, now, room[:0])
	if value == nil || !m.tokens.hold(l.Generations, tokens) {
		return nil
	}
	return value
}

// find returns a copy of the value under the lookup's key, if it has not expired: with the tokens under which it was
// written, in the room for them, and the time until which it lives, in milliseconds.
func (m *Memory) find(l *tier.Lookup, now time.Time, room []tier.Token) (value []byte, tokens []tier.Token, expires int64) {
	stored, err := m.ring.Get(text(&l.Key))
	if err != nil || len(stored) < memoryHead {
		return nil, nil, 0
	}
	n := int(stored[8])
	expires = int64(binary.BigEndian.Uint64(stored))
	if n != len(l.Generations) || len(stored) < memoryHead+8*n || now.UnixMilli() >= expires {
		return nil, nil, 0
	}
	tokens = room[:0]
	for i := range n {
		tokens = append(tokens, tier.Token(binary.BigEndian.Uint64(stored[memoryHead+8*i:])))
	}
	return stored[memoryHead+8*n:], tokens, expires
}

// Read answers lookups. A value was written under the very tokens that it is answered with: a bump and a write may come in
// between.
func (m *Memory) Read(_ context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	found := make([]tier.Found, len(lookups))
	now := time.Now()
	for i := range lookups {
		l, f := &lookups[i], &found[i]
		f.Tokens = m.tokens.read(l.Generations, make([]tier.Token, 0, len(l.Generations)))
		var room [tier.MaxGuards]tier.Token
		if value, tokens, expires := m.find(l, now, room[:0]); value != nil && slices.Equal(tokens, f.Tokens) {
			f.Value, f.Expires = value, time.UnixMilli(expires)
		}
	}
	return found, nil
}

// Write stores entries whose tokens hold; those over the size cap are left out.
func (m *Memory) Write(_ context.Context, writes []tier.Write) error {
	for i := range writes {
		w := &writes[i]
		if _, err := m.put(&w.Key, w.Value, w.Expires, w.Guard); err != nil {
			return err
		}
	}
	return nil
}

// put stores one entry, and reports whether it did. The tokens' lock is held meanwhile, so that a bump comes before the
// check or after the entry, which is then never served.
func (m *Memory) put(k *tier.Key, value []byte, expires time.Time, guard tier.Guard) (bool, error) {
	if len(value) > m.maxEntry || len(guard.Tokens) == 0 || len(guard.Tokens) > tier.MaxGuards {
		return false, nil
	}
	buf := m.buffers.Get(memoryHead + 8*len(guard.Tokens) + len(value)) // the ring copies it
	buf = binary.BigEndian.AppendUint64(buf, uint64(expires.UnixMilli()))
	buf = append(buf, byte(len(guard.Tokens)))
	for _, t := range guard.Tokens {
		buf = binary.BigEndian.AppendUint64(buf, uint64(t))
	}
	buf = append(buf, value...)
	defer m.buffers.Put(buf)
	m.tokens.keep(&guard)
	m.tokens.mu.RLock()
	defer m.tokens.mu.RUnlock()
	if !m.tokens.holdLocked(guard.Generations, guard.Tokens) {
		return false, nil
	}
	err := m.ring.Set(text(k), buf)
	m.heads.forget(m.hasher.Sum64(text(k))) // of the entry before
	return err == nil, err
}

// Bump replaces tokens.
func (m *Memory) Bump(_ context.Context, generations []tier.Generation) error {
	m.tokens.bump(generations)
	return nil
}

// Delete removes entries.
func (m *Memory) Delete(_ context.Context, keys []tier.Key) error {
	for _, k := range keys {
		if err := m.ring.Delete(string(k[:])); err != nil && !errors.Is(err, bigcache.ErrEntryNotFound) {
			return err
		}
	}
	return nil
}

// Holds implements Holder; entries that are stale but not yet thrown out are included.
func (m *Memory) Holds() tier.Stats {
	return tier.Stats{Entries: int64(m.ring.Len()), Bytes: int64(m.ring.Capacity()), Evictions: m.evicted.Load()}
}

// Close frees the memory.
func (m *Memory) Close() error { return m.ring.Close() }
