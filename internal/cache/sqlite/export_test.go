package sqlite

// TokensKept is how many tokens are in memory.
func (t *Tier) TokensKept() int {
	c := t.current.Load().file.contents
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.tokens)
}

// Calls is how many calls were given a connection.
func (t *Tier) Calls() int64 { return t.calls.Load() }
