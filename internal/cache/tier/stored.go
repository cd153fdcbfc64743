package tier

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// A stored value is, in this order: one byte that says its format, four of a checksum, eight of the expiry (ms since 1970),
// one that says how many tokens follow, eight for each, and the value; all numbers are big-endian. The checksum (CRC-32C)
// covers the key and all else: it finds damage, not intent.
const (
	storedFormat = 1 // another one is an older version's, which compressed here

	sumAt, expiresAt, countAt, tokensAt = 1, 5, 13, 14
)

var errDamaged = errors.New("a damaged value")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Codec turns entries into the values that a database keeps, and back.
type Codec struct {
	MaxValue int // bytes of an entry's value
}

// storable reports whether a write can be stored at all.
func (c Codec) storable(w *Write) bool {
	g := &w.Guard
	return len(w.Value) <= c.MaxValue && len(g.Generations) == len(g.Tokens) && len(g.Tokens) > 0 && len(g.Tokens) <= MaxGuards
}

// MaxStored is how many bytes a stored value has at most.
func (c Codec) MaxStored() int { return tokensAt + 8*MaxGuards + c.MaxValue }

// Encode returns the stored value of a write, in memory of its own; nil of one that cannot be stored and is left out: too large, or
// guarded by none or too many. What is less than a millisecond of the
// expiry is cut off, so that a life never becomes longer.
func (c Codec) Encode(w *Write) []byte {
	if !c.storable(w) {
		return nil
	}
	stored := make([]byte, tokensAt, tokensAt+8*len(w.Guard.Tokens)+len(w.Value))
	stored[0] = storedFormat
	binary.BigEndian.PutUint64(stored[expiresAt:], uint64(w.Expires.UnixMilli()))
	stored[countAt] = byte(len(w.Guard.Tokens))
	stored = append(appendTokens(stored, w.Guard.Tokens), w.Value...)
	binary.BigEndian.PutUint32(stored[sumAt:], checksum(&w.Key, stored))
	return stored
}

func appendTokens(b []byte, tokens []Token) []byte {
	for _, token := range tokens {
		b = binary.BigEndian.AppendUint64(b, uint64(token))
	}
	return b
}

func checksum(key *Key, stored []byte) uint32 {
	sum := crc32.Update(crc32.Checksum(key[:], castagnoli), castagnoli, stored[:sumAt])
	return crc32.Update(sum, castagnoli, stored[expiresAt:])
}

// Decode fills found from a stored value, if the tokens in found are those that it was written under and its time has
// not come. The value is in the memory of stored. The error says that it is damaged.
func (c Codec) Decode(found *Found, key *Key, stored []byte, now time.Time) error {
	if len(stored) < tokensAt || binary.BigEndian.Uint32(stored[sumAt:]) != checksum(key, stored) {
		return errDamaged
	}
	count := int(stored[countAt])
	if len(stored) < tokensAt+8*count {
		return errDamaged
	}
	tokens, value := stored[tokensAt:tokensAt+8*count], stored[tokensAt+8*count:]
	expires := time.UnixMilli(int64(binary.BigEndian.Uint64(stored[expiresAt:])))
	holds := count > 0 && bytes.Equal(tokens, appendTokens(make([]byte, 0, 8*MaxGuards), found.Tokens))
	switch {
	case !holds || !now.Before(expires) || stored[0] != storedFormat:
		return nil
	case len(value) > c.MaxValue:
		return errDamaged
	}
	found.Value, found.Expires = value[:len(value):len(value)], expires
	return nil
}
