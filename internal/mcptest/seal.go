package mcptest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// Seal returns 16 hex digits that only who knows the key can make of the parts. A fault server puts them into its answers:
// an answer that somebody made up, or that belongs to another request, principal or server, has not the right ones.
func Seal(key string, parts ...string) string {
	const length = 16
	h := hmac.New(sha256.New, []byte(key))
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))[:length]
}
