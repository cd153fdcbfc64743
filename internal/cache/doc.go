// Package cache is the caching stage: it answers what it may from memory, Redis or a database, and asks the server for
// the rest.
//
// It promises that no answer crosses credentials or sessions, that none is served past the time that the server or the
// operator gave it or from before an invalidation that had completed, and that a tier that is slow, dead or lying is
// never an agent's error. What may be stored is the protocol's to say (2026-07-28, server/utilities/caching, SEP-2549)
// and the operator's.
//
// The stage has two halves: Front looks into memory before a flight, Back, inside the flight, into memory again, then the
// slow tiers, then goes upstream and stores. Which equal calls share a flight is the business of the stage between them,
// and connections of the one behind. The tiers are adapters behind the interface Tier.
package cache
