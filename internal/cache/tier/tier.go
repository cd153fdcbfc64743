// Package tier is the contract between the cache stage and what keeps its entries: memory, Redis, Postgres, SQLite. The contract as
// tests is in tiertest, which every adapter runs.
package tier

import (
	"context"
	"time"
)

// Key names an entry in every tier: a SHA-256 over length-prefixed parts, so that it tells nothing of what it names.
type Key [32]byte

// Generation names one of the things whose change invalidates entries: a family of an upstream's methods, a uri, a
// credential. It is a hash, too.
type Generation [16]byte

// Token is the present value of a Generation in one tier: a random number that a bump replaces, never 0. An entry is good
// only while the tokens with which it was written still hold. Random, because a counter that a tier lost and began anew
// could make an invalidated entry good again.
type Token uint64

// MaxLife is more than any entry lives: fresh for a day, stale for another.
const MaxLife = 49 * time.Hour

// MaxGuards is how many generations guard one entry at most.
const MaxGuards = 4

// Guard is what an entry depends on: generations, and the tokens that one tier had for them before the server was asked.
// Both slices have the same length, 1 to MaxGuards.
type Guard struct {
	Generations []Generation
	Tokens      []Token
}

// Lookup asks a tier for one key.
type Lookup struct {
	Key         Key
	Generations []Generation // that guard the entry, in the order in which they were written
}

// Found is a tier's answer to one Lookup.
type Found struct {
	Value   []byte    // nil where there is no entry, or where its tokens do not hold. The caller may keep it and not change it
	Expires time.Time // of Value
	Tokens  []Token   // the present tokens of the Lookup's generations
}

// Write is one entry to store.
type Write struct {
	Key     Key
	Value   []byte    // opaque to the tier; at most the configured size of an entry
	Expires time.Time // absolute; the tier forgets the entry some time after, and does not answer with it from then on; 25 h at most
	Guard   Guard
}

// Stats is what a tier holds.
type Stats struct {
	Entries   int64 // -1 where it is not known
	Bytes     int64 // -1 where it is not known
	Evictions int64 // entries that went for want of room since the start; -1 where it is not known
}

// Tier keeps entries: memory, Redis, a database. It is safe for concurrent use. A tier never decides whether an entry may
// be served; it answers truthfully what it has and which tokens hold.
//
// Errors mean that the tier could not do it, never that there is no entry. Every call ends soon after its context does,
// also where the tier hangs.
type Tier interface {
	// Name is the tier's label in metrics: memory, redis or database.
	Name() string
	// Read answers lookups in one round trip, in their order. It leaves nothing behind: a generation under which nothing is
	// stored has a token, too, until a bump of it, or of some other that shares it, but the tier keeps none for it.
	Read(ctx context.Context, lookups []Lookup) ([]Found, error)
	// Write stores entries in one round trip, each only if all its tokens hold at that moment; the others are left out
	// without an error, and so may be one under a token that is not kept. A later write of a key replaces the earlier one.
	Write(ctx context.Context, writes []Write) error
	// Bump gives the generations new tokens, kept or not, and tells the other daemons that share the tier. When it returns nil, no entry
	// that was written under the old tokens is answered again by this tier, to anybody.
	Bump(ctx context.Context, generations []Generation) error
	// Delete removes entries; those that are not there are no error.
	Delete(ctx context.Context, keys []Key) error
	// Close ends the tier. No call is under way and none comes after.
	Close() error
}

// Shared is a tier that several daemons may use.
type Shared interface {
	Tier
	// Linked reports whether what other daemons bump is received at this moment. A link that went silent counts as linked for up to
	// 3 s. A tier without a Listener is never linked.
	Linked() bool
}

// Embedded is a tier of this daemon alone.
type Embedded interface {
	Tier
	// Holds is what it holds, counted as things happen: it answers at once.
	Holds() Stats
	// BumpAll gives every generation a new token: no entry that was written before is answered again. It is for the start after an
	// unclean end, when bumps may have been lost. It may take up to 5 s; while it fails, the tier answers as before.
	BumpAll(ctx context.Context) error
}

// Listener is told by a shared tier of what other daemons bump. Its functions are called from the tier's own goroutine,
// return soon and do not call the tier.
type Listener struct {
	Bumped func([]Generation) // by another daemon: a daemon's own bumps do not come back to it
	Lost   func()             // messages may have been missed: at every connection but a first one before which nothing was read
	Moved  func()             // the tier is at another server than before, which knows nothing of what was told to that one
}
