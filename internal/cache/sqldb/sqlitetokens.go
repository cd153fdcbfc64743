package sqldb

import (
	"sync"
	"time"

	"fluentd-perf/internal/cache"
)

// maxLooseTokens is how many tokens are kept that no entry was written under. Above it all of them are forgotten: who
// writes under one of those has its entry left out.
const maxLooseTokens = 1 << 16

// tokenTable is the tokens of one SQLite file. The file belongs to this process alone, so the table in memory is the
// truth for readers; the file has those that entries were written under. What the writer changes in the file it changes
// here after the commit and before it answers.
//
// A token is made here alone and stored with the first entry under it. One that is lost before guards nothing.
type tokenTable struct {
	mu     sync.RWMutex // guards the following
	tokens map[cache.Generation]tokenState
	loose  int // tokens with used == 0
}

type tokenState struct {
	token cache.Token
	used  int64 // unix seconds of the last noted write under it; 0 where the file does not have it
}

func newTokenTable() *tokenTable {
	return &tokenTable{tokens: map[cache.Generation]tokenState{}}
}

// present fills tokens with those of the generations, and makes what is missing.
func (t *tokenTable) present(tokens []cache.Token, generations []cache.Generation) {
	t.mu.RLock()
	missing := false
	for i, g := range generations {
		tokens[i] = t.tokens[g].token
		missing = missing || tokens[i] == 0
	}
	t.mu.RUnlock()
	if missing {
		t.make(tokens, generations)
	}
}

func (t *tokenTable) make(tokens []cache.Token, generations []cache.Generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loose+len(generations) > maxLooseTokens {
		t.forgetLooseLocked()
	}
	for i, g := range generations {
		state, ok := t.tokens[g]
		if !ok {
			state.token = newToken()
			t.tokens[g] = state
			t.loose++
		}
		tokens[i] = state.token
	}
}

func (t *tokenTable) forgetLooseLocked() {
	for g, state := range t.tokens {
		if state.used == 0 {
			delete(t.tokens, g)
		}
	}
	t.loose = 0
}

// of returns a generation's token, the zero state where it has none.
func (t *tokenTable) of(g cache.Generation) tokenState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.tokens[g]
}

// noted says that the file now has the token. Where another one was made meanwhile, because the table was full, that one
// stays: nothing is readable under the stored one until the next start, and a bump removes it from the file all the same.
func (t *tokenTable) noted(g cache.Generation, state tokenState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.tokens[g]
	if ok && old.token != state.token {
		return
	}
	if ok && old.used == 0 {
		t.loose--
	}
	t.tokens[g] = state
}

// drop forgets a generation's token, so that the next reader makes a new one.
func (t *tokenTable) drop(g cache.Generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.tokens[g]; ok && old.used == 0 {
		t.loose--
	}
	delete(t.tokens, g)
}

// clear forgets all of them.
func (t *tokenTable) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.tokens)
	t.loose = 0
}

// dropUnused forgets what the file has had no note of since the given time.
func (t *tokenTable) dropUnused(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for g, state := range t.tokens {
		if state.used != 0 && state.used < since.Unix() {
			delete(t.tokens, g)
		}
	}
}
