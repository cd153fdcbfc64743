package sqlite

// Tier is what Open returns, with what only tests ask for.
type Tier = adapter

// OpenTier is Open.
var OpenTier = openTier

// ErrInUse and ErrUnavailable are in the errors of Open and of calls.
var (
	ErrInUse       = errInUse
	ErrUnavailable = errUnavailable
)

// TokensKept is how many tokens are in memory.
func (t *Tier) TokensKept() int {
	c := t.current.Load().file.contents
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.tokens)
}

// Calls is how many calls were given a connection.
func (t *Tier) Calls() int64 { return t.calls.Load() }
