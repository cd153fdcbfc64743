package memory

import (
	"sync"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// maxHeads bounds the heads that are kept, which are less than a megabyte then. One that is forgotten is read anew.
const maxHeads = 1 << 12

// heads are the first bytes of values, for those who need no more: bigcache gives nothing but copies of the whole. They go by
// bigcache's hashes, of which an entry replaces another with the same one. Whatever removes or replaces an entry forgets the
// head after it, so that there is no head without its entry.
type heads struct {
	mu sync.RWMutex // guards by
	by map[uint64]*head
}

// head is one of them. It is not changed after it was made.
type head struct {
	key     tier.Key
	value   []byte
	tokens  []tier.Token
	expires int64 // in milliseconds
	read    bool  // false: a mark of one who is about to read the entry
}

// get returns the head of the key's entry, nil where it is not known.
func (h *heads) get(hash uint64, k *tier.Key) *head {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if one := h.by[hash]; one != nil && one.read && one.key == *k {
		return one
	}
	return nil
}

// mark puts a mark where the head comes when it has been read.
func (h *heads) mark(hash uint64) *head {
	mark := new(head)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = make(map[uint64]*head)
	}
	for some := range h.by {
		if len(h.by) < maxHeads {
			break
		}
		delete(h.by, some)
	}
	h.by[hash] = mark
	return mark
}

// put replaces the mark by what was read after it was made, nil for nothing, if it is still there. Without the mark, one
// could read an entry, another replace it and forget its head, and then the first put the head of the entry that is gone.
func (h *heads) put(hash uint64, mark, one *head) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.by[hash] != mark:
	case one == nil:
		delete(h.by, hash)
	default:
		h.by[hash] = one
	}
}

// forget drops the head of an entry that is gone. bigcache holds the lock of the entry's shard at times.
func (h *heads) forget(hash uint64) {
	h.mu.RLock()
	_, there := h.by[hash]
	h.mu.RUnlock()
	if !there {
		return // most are never asked for; a mark from now on is before the reading of what came instead
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.by, hash)
}

// Head returns the first Options.Head bytes, or fewer, of the value that Get would return, most often without a copy of the
// value. They are not to be changed.
func (m *Tier) Head(l *tier.Lookup, now time.Time) []byte {
	h := m.headOf(l, now)
	if h == nil || now.UnixMilli() >= h.expires || !m.Tokens.Hold(l.Generations, h.tokens) {
		return nil
	}
	return h.value
}

// headOf returns the head of the entry under the lookup's key, nil where there is none.
func (m *Tier) headOf(l *tier.Lookup, now time.Time) *head {
	hash := m.hasher.Sum64(text(&l.Key))
	if h := m.heads.get(hash, &l.Key); h != nil {
		return h
	}
	if m.readHead(l, now) == nil {
		return nil // as it is with one of the two entries that may answer a request: no mark is worth making
	}
	mark := m.heads.mark(hash)
	h := m.readHead(l, now)
	m.heads.put(hash, mark, h)
	return h
}

// readHead makes the head of an entry, nil where there is none or it has expired.
func (m *Tier) readHead(l *tier.Lookup, now time.Time) *head {
	var room [tier.MaxGuards]tier.Token
	value, tokens, expires := m.find(l, now, room[:0])
	if value == nil {
		return nil
	}
	return &head{
		key: l.Key, value: append([]byte(nil), value[:min(len(value), m.head)]...),
		tokens: append([]tier.Token(nil), tokens...), expires: expires, read: true,
	}
}
