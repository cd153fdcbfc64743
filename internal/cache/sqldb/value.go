package sqldb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/klauspost/compress/zstd"

	"fluentd-perf/internal/cache"
)

// A stored value is, in this order: one byte that says its form, four of a checksum, eight of the expiry (ms since 1970),
// one that says how many tokens follow, eight for each, and the value, as it is or compressed. The checksum (CRC-32C)
// covers the key and all else: it finds damage, not intent.
const (
	formPlain = 1
	formZstd  = 2

	sumAt, expiresAt, countAt, tokensAt = 1, 5, 13, 14

	compressAbove = 1 << 10 // bytes; below it there is little to win
)

var (
	errDamaged = errors.New("a damaged value")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// codec turns entries into stored values and back. It is safe for concurrent use.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
	max int // bytes of a value
}

func newCodec(maxValue int) (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(256<<10))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(uint64(maxValue)))
	if err != nil {
		return nil, err
	}
	return &codec{enc: enc, dec: dec, max: maxValue}, nil
}

func (c *codec) close() {
	c.dec.Close()
	_ = c.enc.Close() // it has no stream to end
}

// storable reports whether a write can be stored at all; the others are left out.
func (c *codec) storable(w *cache.Write) bool {
	g := &w.Guard
	return len(w.Value) <= c.max && len(g.Generations) == len(g.Tokens) && len(g.Tokens) > 0 && len(g.Tokens) <= cache.MaxGuards
}

// most is how many bytes a stored value has at most.
func (c *codec) most() int { return tokensAt + 8*cache.MaxGuards + c.max }

// pack returns the stored value, in memory of its own. What is less than a millisecond of the expiry is cut off, so that
// a life never becomes longer.
func (c *codec) pack(w *cache.Write) []byte {
	head := tokensAt + 8*len(w.Guard.Tokens)
	if len(w.Value) > compressAbove {
		stored := c.enc.EncodeAll(w.Value, make([]byte, head, head+len(w.Value)/2+64))
		if len(stored) < head+len(w.Value) {
			return seal(w, formZstd, stored)
		}
	}
	stored := make([]byte, head+len(w.Value))
	copy(stored[head:], w.Value)
	return seal(w, formPlain, stored)
}

func seal(w *cache.Write, form byte, stored []byte) []byte {
	stored[0] = form
	binary.BigEndian.PutUint64(stored[expiresAt:], uint64(w.Expires.UnixMilli()))
	stored[countAt] = byte(len(w.Guard.Tokens))
	for i, token := range w.Guard.Tokens {
		binary.BigEndian.PutUint64(stored[tokensAt+8*i:], uint64(token))
	}
	binary.BigEndian.PutUint32(stored[sumAt:], checksum(&w.Key, stored))
	return stored
}

func checksum(key *cache.Key, stored []byte) uint32 {
	sum := crc32.Update(crc32.Checksum(key[:], castagnoli), castagnoli, stored[:sumAt])
	return crc32.Update(sum, castagnoli, stored[expiresAt:])
}

// answer fills found from a stored value, if the tokens in found are those that it was written under and its time has
// not come. The value is in memory of its own, or in that of stored. The error is errDamaged.
func (c *codec) answer(found *cache.Found, key *cache.Key, stored []byte, now time.Time) error {
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
	value, err := c.value(stored[0], stored[tokensAt+8*count:])
	if err != nil {
		return err
	}
	found.Value, found.Expires = value, expires
	return nil
}

// value returns what a payload stands for, never nil.
func (c *codec) value(form byte, payload []byte) ([]byte, error) {
	switch {
	case form == formPlain && len(payload) <= c.max:
		return payload[:len(payload):len(payload)], nil
	case form == formZstd:
		value, err := c.dec.DecodeAll(payload, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		if value == nil {
			value = []byte{}
		}
		return value, nil
	}
	return nil, errDamaged
}

// tokensAre reports whether the stored tokens are these.
func tokensAre(stored []byte, tokens []cache.Token) bool {
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
