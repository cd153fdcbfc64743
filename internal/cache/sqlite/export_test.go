package sqlite

// TokensKept is how many tokens are in memory.
func (t *Tier) TokensKept() int {
	tokens := t.current.Load().file.tokens
	tokens.mu.RLock()
	defer tokens.mu.RUnlock()
	return len(tokens.tokens)
}

// Calls is how many calls were given a connection.
func (t *Tier) Calls() int64 { return t.calls.Load() }
