package cache

import (
	"crypto/sha256"

	"fluentd-perf/internal/cache/tier"
)

// What guards an entry: the generations on which it depends, by kind. The names are parts of what tiers keep, and
// never change: daemons of two versions may share a tier.
const (
	guardFamily     = "family"      // the answers to one family of methods: every entry has it
	guardMethod     = "method"      // those to one method of a server without MCP
	guardURI        = "uri"         // what was read of one resource
	guardCredential = "asker"       // all private entries of a credential: bumped when the server refuses it
	guardWrites     = "writes"      // what a tools/call of the credential may have changed
	guardShown      = "acts"        // lists that are shared where there are no sessions: what any agent of the credential does may change them
	guardStream     = "stream"      // what is kept because its changes would come on a stream
	guardWithdrawal = "withdrawals" // everybody's entries, see withdrawalOf
)

// generationOf names a generation: what kind it is, of which upstream, and which one of the kind.
func generationOf(kind, upstream, detail string) tier.Generation {
	buf := make([]byte, 0, 128)
	buf = appendPart(buf, kind)
	buf = appendPart(buf, upstream)
	buf = appendPart(buf, detail)
	sum := sha256.Sum256(buf)
	return tier.Generation(sum[:16])
}

// guard names a generation of this upstream.
func (u *Stage) guard(kind, detail string) tier.Generation {
	return generationOf(kind, u.opts.Identity, detail)
}

// withdrawalOf guards everybody's entry under a key: a private answer to the key bumps it. Keys share 4,096 of them for each
// upstream, so that they are bounded; a collision costs a miss. Deleting the entry would not be enough: an earlier write
// of it may reach a tier after that, and so may a copy that was read already.
func withdrawalOf(upstream string, k tier.Key) tier.Generation {
	return generationOf(guardWithdrawal, upstream, string([]byte{k[0] & 0x0f, k[1]}))
}
