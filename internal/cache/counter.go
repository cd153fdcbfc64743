package cache

import "sync/atomic"

// counter counts.
type counter struct{ n atomic.Uint64 }

func (c *counter) add(n uint64) { c.n.Add(n) }
func (c *counter) load() uint64 { return c.n.Load() }
