package cache

import (
	"crypto/sha256"
	"math/rand/v2"
	"sync"
)

// Family is a group of methods whose answers one thing makes old.
type Family uint8

// The families of an upstream.
const (
	FamilyTools     Family = iota // tools/list
	FamilyPrompts                 // prompts/list
	FamilyResources               // resources/list and resources/templates/list
	FamilyRead                    // resources/read
	FamilyDiscover                // server/discover
	FamilyCalls                   // tools/call
	FamilyOther                   // whatever else may share a flight, and all of a server without MCP
	familyCount
)

var familyNames = [familyCount]string{"tools", "prompts", "resources", "read", "discover", "calls", "other"}

// String returns the family's name.
func (f Family) String() string { return familyNames[f] }

// generationOf names a generation: what kind it is, of which upstream, and which one of the kind.
func generationOf(kind, upstream, detail string) Generation {
	buf := make([]byte, 0, 128)
	buf = appendPart(buf, kind)
	buf = appendPart(buf, upstream)
	buf = appendPart(buf, detail)
	sum := sha256.Sum256(buf)
	return Generation(sum[:16])
}

// withdrawalOf guards everybody's entry under a key: a private answer to the key bumps it. Keys share 4,096 of them for each
// upstream, so that they are bounded; a collision costs a miss. Deleting the entry would not be enough: a write of before, or
// the copy of one who has read it already, may come after that.
func withdrawalOf(upstream string, k Key) Generation {
	return generationOf("withdrawals", upstream, string([]byte{k[0] & 0x0f, k[1]}))
}

// maxGenerations bounds the tokens that memory keeps. Beyond it some token is forgotten, which makes its entries misses.
const maxGenerations = 100_000

// tokens are the generations of one tier in this process.
type tokens struct {
	mu sync.RWMutex
	by map[Generation]Token
}

func newTokens() *tokens { return &tokens{by: make(map[Generation]Token)} }

// newToken returns a token that was never there before.
func newToken() Token {
	for {
		if t := Token(rand.Uint64()); t != 0 {
			return t
		}
	}
}

// hold reports whether the generations have these tokens now.
func (t *tokens) hold(generations []Generation, want []Token) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.holdLocked(generations, want)
}

func (t *tokens) holdLocked(generations []Generation, want []Token) bool {
	if len(generations) != len(want) {
		return false
	}
	for i, g := range generations {
		if have, ok := t.by[g]; !ok || have != want[i] {
			return false
		}
	}
	return true
}

// read returns the present tokens, making those that are missing.
func (t *tokens) read(generations []Generation, into []Token) []Token {
	t.mu.RLock()
	missing := false
	for _, g := range generations {
		tok, ok := t.by[g]
		missing = missing || !ok
		into = append(into, tok)
	}
	t.mu.RUnlock()
	if !missing {
		return into
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	into = into[:len(into)-len(generations)]
	for _, g := range generations {
		tok, ok := t.by[g]
		if !ok {
			t.makeRoomLocked()
			tok = newToken()
			t.by[g] = tok
		}
		into = append(into, tok)
	}
	return into
}

func (t *tokens) makeRoomLocked() {
	for some := range t.by {
		if len(t.by) < maxGenerations {
			return
		}
		delete(t.by, some)
	}
}

// bump replaces tokens. A generation without one needs none: nothing depends on it.
func (t *tokens) bump(generations []Generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range generations {
		if _, ok := t.by[g]; ok {
			t.by[g] = newToken()
		}
	}
}

// forget drops every token: everything is old.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.by)
}
