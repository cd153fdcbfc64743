package cache

import (
	"sync"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// maxRemembered bounds most of what is remembered by credential, session or key. What is forgotten costs a miss, or is learned
// anew.
const maxRemembered = 10_000

// forgetAfter is for how long an entry of a recentTable stays at least that nobody asks for, where there is room.
const forgetAfter = 2 * time.Minute

// boundedMap is a map that forgets some entry when another one is put in and there is no room. The zero one is empty.
type boundedMap[K comparable, V any] map[K]V

func (m *boundedMap[K, V]) put(k K, v V, limit int) {
	if *m == nil {
		*m = make(map[K]V)
	}
	if _, ok := (*m)[k]; !ok {
		for some := range *m {
			if len(*m) < limit {
				break
			}
			delete(*m, some)
		}
	}
	(*m)[k] = v
}

// table is a boundedMap that is safe for concurrent use. The zero one is empty.
type table[K comparable, V any] struct {
	mu sync.RWMutex
	by boundedMap[K, V]
}

// get returns what is under a key, the zero value where nothing is.
func (t *table[K, V]) get(k K) V {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.by[k]
}

func (t *table[K, V]) has(k K) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.by[k]
	return ok
}

func (t *table[K, V]) empty() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.by) == 0
}

func (t *table[K, V]) put(k K, v V, limit int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.by.put(k, v, limit)
}

func (t *table[K, V]) delete(k K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.by, k)
}

// recentTable remembers what was put in or asked for lately: at most limit entries, and nothing that was not asked for in the last
// 2*forgetAfter, as long as something is put in from time to time. The zero one is empty. It is safe for concurrent use.
type recentTable[K, V comparable] struct {
	mu       sync.RWMutex
	now, old map[K]V   // old is what now was until it was full or had its time
	turned   time.Time // when that was
	half     int       // of the limit: of either
}

// get returns what is under a key, the zero value where nothing is.
func (t *recentTable[K, V]) get(k K) V {
	t.mu.RLock()
	v, ok := t.now[k]
	if !ok {
		v = t.old[k]
	}
	t.mu.RUnlock()
	var none V
	if !ok && v != none {
		t.keep(k, v)
	}
	return v
}

// keep has an entry of the old ones outlive them.
func (t *recentTable[K, V]) keep(k K, v V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.now[k]; !ok && t.old[k] == v && len(t.now) < t.half { // what was put meanwhile is newer
		t.now[k] = v
	}
}

func (t *recentTable[K, V]) put(k K, v V, limit int) {
	at := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.half = limit / 2
	if t.now == nil || len(t.now) >= t.half || at.Sub(t.turned) >= forgetAfter {
		t.now, t.old, t.turned = make(map[K]V), t.now, at
	}
	t.now[k] = v
}

// each yields all values. The table is not to be changed meanwhile.
func (t *recentTable[K, V]) each(yield func(V) bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, v := range t.now {
		if !yield(v) {
			return
		}
	}
	for k, v := range t.old {
		if _, kept := t.now[k]; !kept && !yield(v) {
			return
		}
	}
}

// keySet is a set of keys. The zero one is empty.
type keySet struct{ table[tier.Key, struct{}] }

// set puts a key in or takes it out. Most often it is so already, which takes only a reader's lock.
func (s *keySet) set(k tier.Key, in bool) {
	switch {
	case s.has(k) == in:
	case in:
		s.put(k, struct{}{}, maxRemembered)
	default:
		s.delete(k)
	}
}
