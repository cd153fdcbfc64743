package redis

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// tokenLife is how long a token lives after an entry was last written under it. No entry lives longer, so that a token
// outlives its entries, and what nobody writes under any more does not pile up. The slots live as long after the last of them
// was made.
const tokenLife = 26 * time.Hour

// slotSize is how many characters a slot's number has: 80 random bits.
const slotSize = 16

// format is the version of everything here. It is part of the names, so that daemons of two versions on one server do not
// delete each other's entries, and of the values, so that what somebody else stored under a name is recognised.
const format = 2

// names gives the keys and the channel their names on the server.
type names struct{ values, tokens, slots, channel string }

func newNames(prefix string) names {
	space := fmt.Sprintf("fluentd-perf:%d:%s:", format, prefix)
	return names{values: space + "v:", tokens: space + "g:", slots: space + "s", channel: space + "bumps"}
}

func (n *names) value(k tier.Key) string { return join(n.values, k[:]) }

func (n *names) token(g tier.Generation) string { return join(n.tokens, g[:]) }

// slotOf is which slot a token's generation has, one of 4,096: the first two characters of its 22.
func slotOf(token string) string { return token[len(token)-22 : len(token)-20] }

func join(space string, hash []byte) string {
	var b [160]byte
	return string(base64.RawURLEncoding.AppendEncode(append(b[:0], space...), hash))
}

// A value at rest is a header and then the opaque bytes, all numbers big-endian:
//
//	format   1 byte
//	count    1 byte, of tokens
//	expires  8 bytes, nanoseconds of Unix time
//	tokens   8 bytes each
//	sum      4 bytes, CRC-32C over the key, all of the above and the opaque bytes
const (
	headerFixed = 1 + 1 + 8
	headerSum   = 4
)

// valueHeader is the size of a header with that many tokens.
func valueHeader(tokens int) int { return headerFixed + 8*tokens + headerSum }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode makes an entry's value at rest.
func encode(w *tier.Write, expires time.Time) []byte {
	b := make([]byte, 0, valueHeader(len(w.Guard.Tokens))+len(w.Value))
	b = append(b, format, byte(len(w.Guard.Tokens)))
	b = binary.BigEndian.AppendUint64(b, uint64(expires.UnixNano()))
	b = appendTokens(b, w.Guard.Tokens)
	b = binary.BigEndian.AppendUint32(b, sum(w.Key, b, w.Value))
	return append(b, w.Value...)
}

func appendTokens(b []byte, tokens []tier.Token) []byte {
	for _, t := range tokens {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	return b
}

func sum(k tier.Key, header, value []byte) uint32 {
	s := crc32.Update(0, castagnoli, k[:])
	s = crc32.Update(s, castagnoli, header)
	return crc32.Update(s, castagnoli, value)
}

// entry is a value at rest, read.
type entry struct {
	tokens  []byte // as they stand in the header
	expires time.Time
	value   []byte
}

// decode reads a value at rest. It is not ok where encode cannot have made it for that key.
func decode(k tier.Key, at string) (e entry, ok bool) {
	b := []byte(at)
	if len(b) < headerFixed || b[0] != format {
		return entry{}, false
	}
	n := int(b[1])
	if n == 0 || n > tier.MaxGuards || len(b) < valueHeader(n) {
		return entry{}, false
	}
	header, rest := b[:headerFixed+8*n], b[headerFixed+8*n:]
	e = entry{
		tokens:  header[headerFixed:],
		expires: time.Unix(0, int64(binary.BigEndian.Uint64(header[2:]))),
		value:   rest[headerSum:],
	}
	return e, binary.BigEndian.Uint32(rest) == sum(k, header, e.value)
}

// holds says whether these are the tokens under which the entry was written, in the same order.
func (e *entry) holds(tokens []tier.Token) bool {
	return bytes.Equal(e.tokens, appendTokens(make([]byte, 0, 8*tier.MaxGuards), tokens))
}

// formatToken writes a token as the scripts do.
func formatToken(t tier.Token) string { return fmt.Sprintf("%016x", uint64(t)) }

// parseTokens reads tokens that a script answered.
func parseTokens(parts []string) ([]tier.Token, error) {
	tokens := make([]tier.Token, len(parts))
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 16, 64)
		if err != nil || n == 0 || len(p) != 16 {
			return nil, errMalformed
		}
		tokens[i] = tier.Token(n)
	}
	return tokens, nil
}
