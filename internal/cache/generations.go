package cache

import (
	"crypto/sha256"

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
