package cache

import (
	"maps"
	"sync"
	"time"
)

// credentials are those that had a 2xx answer of the server's lately: only they are given public entries, so that others
// meet the server's 401, which starts OAuth. The zero one knows none.
type credentials struct {
	mu       sync.RWMutex
	accepts  boundedMap[partition, acceptance]
	refusals boundedMap[partition, time.Time] // by credential: when the server last refused one
}

// acceptance is when the server accepted a call of a partition.
type acceptance struct {
	at         time.Time
	credential partition // the zero one where that was in an earlier run
}

// valid reports whether nothing of the credential was refused since.
func (a acceptance) valid(no map[partition]time.Time, credential partition) bool {
	refused, ok := no[credential]
	return !ok || a.at.After(refused)
}

// credentialLife is how long after a 2xx answer a credential is given public entries, over a restart as well.
const credentialLife = 10 * time.Minute

// inherit adds the times of an earlier run. What this one saw itself is later.
func (c *credentials) inherit(last map[partition]time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, at := range last {
		if _, ok := c.accepts[p]; !ok {
			c.noteLocked(p, acceptance{at: at}, now)
		}
	}
}

// accepted notes an answer of now to a call that was sent then. One that was sent before a refusal says nothing.
func (c *credentials) accepted(p, credential partition, sent, now time.Time) {
	c.mu.RLock()
	last, ok := c.accepts[p]
	recent := ok && now.Sub(last.at) < time.Second && !now.Before(last.at) && last.credential == credential && last.valid(c.refusals, credential)
	c.mu.RUnlock()
	if recent {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if no, refused := c.refusals[credential]; refused && sent.Before(no) {
		return
	}
	c.noteLocked(p, acceptance{now, credential}, now)
}

// noteLocked forgets expired ones where there is no room, and some other where there are none.
func (c *credentials) noteLocked(p partition, a acceptance, now time.Time) {
	if _, ok := c.accepts[p]; !ok && len(c.accepts) >= maxRemembered {
		maps.DeleteFunc(c.accepts, func(_ partition, a acceptance) bool { return now.Sub(a.at) >= credentialLife })
	}
	c.accepts.put(p, a, maxRemembered)
}

// refused notes that the server refused a call of a partition: all partitions of its credential lose their public entries.
func (c *credentials) refused(p, credential partition, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.accepts, p)
	c.refusals.put(credential, now, maxRemembered)
}

func (c *credentials) known(p, credential partition, now time.Time) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	last, ok := c.accepts[p]
	return ok && now.Sub(last.at) < credentialLife && now.Add(skew*time.Millisecond).After(last.at) && last.valid(c.refusals, credential)
}

// all are the times that the next run is to know. Of a partition that only an earlier run saw accepted nobody knows the credential:
// it is left out where any was refused since.
func (c *credentials) all() map[partition]time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var refused time.Time // the last one
	for _, at := range c.refusals {
		if at.After(refused) {
			refused = at
		}
	}
	all := make(map[partition]time.Time, len(c.accepts))
	for p, last := range c.accepts {
		if last.valid(c.refusals, last.credential) && (last.credential != partition{} || last.at.After(refused)) {
			all[p] = last.at
		}
	}
	return all
}
