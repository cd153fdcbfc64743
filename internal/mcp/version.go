package mcp

// The protocol versions, each the date in its name. Legacy is everything up to Version20251125, modern is Version20260728
// and whatever is newer.
const (
	Version20241105 = "2024-11-05"
	Version20250326 = "2025-03-26"
	Version20250618 = "2025-06-18"
	Version20251125 = "2025-11-25"
	Version20260728 = "2026-07-28"
)

// Era is one of the two families of protocol versions. Requests are relayed in their own era and never translated.
type Era uint8

// Legacy has initialize and sessions; modern is stateless, with per-request `_meta` and `Mcp-*` headers. Plain is no era of
// MCP's but JSON-RPC 2.0 and nothing else: the Method of such a call is always MethodOther.
const (
	EraLegacy Era = iota
	EraModern
	EraPlain
)

// String returns "legacy", "modern" or "plain".
func (e Era) String() string {
	switch e {
	case EraModern:
		return "modern"
	case EraPlain:
		return "plain"
	}
	return "legacy"
}

// KnownVersion reports whether the daemon knows the protocol version.
func KnownVersion(v string) bool {
	switch v {
	case Version20241105, Version20250326, Version20250618, Version20251125, Version20260728:
		return true
	}
	return false
}

// EraOf returns the era of a protocol version: modern for Version20260728 and for any later date, legacy for everything
// else, no version and rubbish included.
func EraOf(version string) Era {
	if isDate(version) && version >= Version20260728 {
		return EraModern
	}
	return EraLegacy
}

func isDate(s string) bool {
	if len(s) != len("2006-01-02") {
		return false
	}
	for i := range len(s) {
		if i == 4 || i == 7 {
			if s[i] != '-' {
				return false
			}
		} else if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
