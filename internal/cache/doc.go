// Package cache is the caching stage: it answers what it may from memory, Redis or a database, and calls the server for the
// rest.
//
// It promises that no answer crosses credentials or sessions; that none is served past the time that the server or the operator
// gave it, or from before an invalidation that had completed; and that a tier that is slow, dead or returns garbage is never an
// agent's error. What may be kept is said by the protocol (2026-07-28, server/utilities/caching, SEP-2549) and by the operator.
//
// The path of a call; stage.go has its steps in order, each in the file that is named:
//
//	Call ── a request that concerns the cache? (request.go) ── no ──> pass: relay it, learn what it invalidates (pass.go)
//	  │ yes: its keys (key.go, partition.go) and what guards it (guards.go)
//	memory (memory.go) ── fresh ──> hit (hit.go)
//	  │
//	flight of equal calls (flights.go, batch/flight) ── another call leads ──> its answer, under this call's id
//	  │ this call leads
//	answer: memory again (load.go), then the tiers (tiers.go) ── fresh ──> that, kept in memory
//	  │ expired: served if the server fails or is slow (stale.go)
//	fetch: the server (serverstream.go)
//	  │
//	examine: whole? whose? for how long? (keep.go, ttl.go) ──> kept in memory, then by each tier's worker; shared with the flight
//
// Beside it: who shares the lists of legacy sessions is in scope.go, what is known of a session in sessions.go, whom the server has
// accepted in credentials.go. What invalidates answers, a 401 among it, is in invalidate.go. Entries are encoded in entry.go, packed
// and sealed for the tiers in pack.go and seal.go. Store (store.go) holds the tiers of a daemon, State (state.go) what outlives it.
//
// How the tiers store is the adapters' (memory, redis, postgres, sqlite, behind the interface of package tier); how a tier is
// written and told of invalidations the worker's; who listens for changes the listener's.
package cache
