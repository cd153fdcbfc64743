package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"

	"fluentd-perf/internal/cache/tier"
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
func generationOf(kind, upstream, detail string) tier.Generation {
	buf := make([]byte, 0, 128)
	buf = appendPart(buf, kind)
	buf = appendPart(buf, upstream)
	buf = appendPart(buf, detail)
	sum := sha256.Sum256(buf)
	return tier.Generation(sum[:16])
}

// withdrawalOf guards everybody's entry under a key: a private answer to the key bumps it. Keys share 4,096 of them for each
// upstream, so that they are bounded; a collision costs a miss. Deleting the entry would not be enough: a write of before, or
// the copy of one who has read it already, may come after that.
func withdrawalOf(upstream string, k tier.Key) tier.Generation {
	return generationOf("withdrawals", upstream, string([]byte{k[0] & 0x0f, k[1]}))
}

// maxGenerations bounds the tokens that memory keeps. Beyond it some is forgotten that is no family's. What was kept under it
// is served on while its slot's number is the same, and is a miss after that.
const maxGenerations = 100_000

// tokens are the generations of memory.
//
// A generation has a token of its own while something is kept under it, a family always. Another one's is made of a number
// that it shares with others, its slot's, so that asking leaves nothing behind. A bump replaces the number and forgets the
// token: neither who read before, nor what was kept, has it again.
type tokens struct {
	mu    sync.RWMutex // guards the following
	by    map[tier.Generation]token
	slots [4096]uint64
}

type token struct {
	tier.Token
	family bool
}

func newTokens() *tokens {
	t := &tokens{by: make(map[tier.Generation]token)}
	t.forget()
	return t
}

// newToken returns a token that was never there before.
func newToken() tier.Token {
	for {
		if t := tier.Token(rand.Uint64()); t != 0 {
			return t
		}
	}
}

// slot is where the number of a generation is.
func (t *tokens) slot(g *tier.Generation) *uint64 {
	return &t.slots[binary.BigEndian.Uint16(g[:])%4096]
}

func (t *tokens) ofLocked(g *tier.Generation) tier.Token {
	if own, ok := t.by[*g]; ok {
		return own.Token
	}
	return tier.Token(*t.slot(g) ^ binary.BigEndian.Uint64(g[8:]))
}

// addFamilies gives families tokens that stay, however many others there are.
func (t *tokens) addFamilies(families []tier.Generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range families {
		t.by[families[i]] = token{t.ofLocked(&families[i]), true}
	}
}

// hold reports whether the generations have these tokens now.
func (t *tokens) hold(generations []tier.Generation, want []tier.Token) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.holdLocked(generations, want)
}

func (t *tokens) holdLocked(generations []tier.Generation, want []tier.Token) bool {
	if len(generations) != len(want) {
		return false
	}
	for i := range generations {
		if t.ofLocked(&generations[i]) != want[i] {
			return false
		}
	}
	return true
}

// read returns the present tokens.
func (t *tokens) read(generations []tier.Generation, into []tier.Token) []tier.Token {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range generations {
		into = append(into, t.ofLocked(&generations[i]))
	}
	return into
}

// keep has the guard's generations have tokens of their own, if its tokens hold.
func (t *tokens) keep(g *tier.Guard) {
	t.mu.RLock()
	missing := slices.ContainsFunc(g.Generations, func(g tier.Generation) bool { _, ok := t.by[g]; return !ok })
	t.mu.RUnlock()
	if !missing {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.holdLocked(g.Generations, g.Tokens) {
		return
	}
	for i, name := range g.Generations {
		if _, ok := t.by[name]; !ok {
			t.makeRoomLocked()
			t.by[name] = token{Token: g.Tokens[i]}
		}
	}
}

func (t *tokens) makeRoomLocked() {
	for some, own := range t.by {
		if len(t.by) < maxGenerations {
			return
		}
		if !own.family {
			delete(t.by, some)
		}
	}
}

// bump replaces tokens.
func (t *tokens) bump(generations []tier.Generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range generations {
		t.bumpLocked(&generations[i])
	}
}

func (t *tokens) bumpLocked(g *tier.Generation) {
	if t.by[*g].family {
		t.by[*g] = token{newToken(), true}
		return
	}
	*t.slot(g) = rand.Uint64()
	delete(t.by, *g)
}

// forget replaces every token: everything is stale.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.slots {
		t.slots[i] = rand.Uint64()
	}
	for g := range t.by {
		t.bumpLocked(&g)
	}
}
