package sqldb

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// A stored value is, in this order: one byte that says its form, four of a checksum, eight of the expiry (ms since 1970),
// one that says how many tokens follow, eight for each, and the value. The checksum (CRC-32C)
// covers the key and all else: it finds damage, not intent.
const (
	formPlain = 1 // another one is an older version's, which compressed here

	sumAt, expiresAt, countAt, tokensAt = 1, 5, 13, 14
)

var (
	errDamaged = errors.New("a damaged value")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// codec turns entries into stored values and back.
type codec struct{ max int } // bytes of a value

// storable reports whether a write can be stored at all; the others are left out.
func (c codec) storable(w *tier.Write) bool {
	g := &w.Guard
	return len(w.Value) <= c.max && len(g.Generations) == len(g.Tokens) && len(g.Tokens) > 0 && len(g.Tokens) <= tier.MaxGuards
}

// most is how many bytes a stored value has at most.
func (c codec) most() int { return tokensAt + 8*tier.MaxGuards + c.max }

// pack returns the stored value, in memory of its own. What is less than a millisecond of the expiry is cut off, so that
// a life never becomes longer.
func (c codec) pack(w *tier.Write) []byte {
	head := tokensAt + 8*len(w.Guard.Tokens)
	stored := make([]byte, head+len(w.Value))
	copy(stored[head:], w.Value)
	stored[0] = formPlain
	binary.BigEndian.PutUint64(stored[expiresAt:], uint64(w.Expires.UnixMilli()))
	stored[countAt] = byte(len(w.Guard.Tokens))
	for i, token := range w.Guard.Tokens {
		binary.BigEndian.PutUint64(stored[tokensAt+8*i:], uint64(token))
	}
	binary.BigEndian.PutUint32(stored[sumAt:], checksum(&w.Key, stored))
	return stored
}

func checksum(key *tier.Key, stored []byte) uint32 {
	sum := crc32.Update(crc32.Checksum(key[:], castagnoli), castagnoli, stored[:sumAt])
	return crc32.Update(sum, castagnoli, stored[expiresAt:])
}

// answer fills found from a stored value, if the tokens in found are those that it was written under and its time has
// not come. The value is in memory of its own, or in that of stored. The error is errDamaged.
func (c codec) answer(found *tier.Found, key *tier.Key, stored []byte, now time.Time) error {
	if len(stored) < tokensAt || binary.BigEndian.Uint32(stored[sumAt:]) != checksum(key, stored) {
		return errDamaged
	}
	count := int(stored[countAt])
	if len(stored) < tokensAt+8*count {
		return errDamaged
	}
	expires := time.UnixMilli(int64(binary.BigEndian.Uint64(stored[expiresAt:])))
	if !tokensAre(stored[tokensAt:tokensAt+8*count], found.Tokens) || !now.Before(expires) {
		return nil
	}
	if stored[0] != formPlain {
		return nil
	}
	value := stored[tokensAt+8*count:]
	if len(value) > c.max {
		return errDamaged
	}
	found.Value, found.Expires = value[:len(value):len(value)], expires
	return nil
}

// tokensAre reports whether the stored tokens are these.
func tokensAre(stored []byte, tokens []tier.Token) bool {
	if len(stored) != 8*len(tokens) || len(tokens) == 0 {
		return false
	}
	for i, token := range tokens {
		if binary.BigEndian.Uint64(stored[8*i:]) != uint64(token) {
			return false
		}
	}
	return true
}
