package cache

import (
	"fmt"
	"sync"

	"fluentd-perf/internal/cache/tier"

	"github.com/klauspost/compress/zstd"
)

// A packed entry is one byte that says its form, and the encoded entry, as it is or compressed: what is sealed does not
// compress any more. The forms are none of an encoded entry's first byte.
const (
	packedPlain = 0x10
	packedZstd  = 0x11

	compressAbove = 1 << 10 // bytes; below it there is little to win
)

// packer compresses and expands. It is safe for concurrent use.
type packer struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// newPacker makes a packer of entries that are no longer than limit.
func newPacker(limit int) (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10))
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(uint64(limit)))
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return &packer{enc, dec}, nil
}

func (p *packer) close() {
	p.dec.Close()
	_ = p.enc.Close() // it has no stream to end
}

// pack returns a packed entry, in memory of its own.
func (p *packer) pack(plain []byte) []byte {
	if len(plain) > compressAbove {
		if packed := p.enc.EncodeAll(plain, append(make([]byte, 0, len(plain)/2+64), packedZstd)); len(packed) <= len(plain) {
			return packed
		}
	}
	return append(append(make([]byte, 0, 1+len(plain)), packedPlain), plain...)
}

// unpack returns what was packed. It may share packed's memory.
func (p *packer) unpack(packed []byte) ([]byte, error) {
	switch {
	case len(packed) > 0 && packed[0] == packedPlain:
		return packed[1:], nil
	case len(packed) > 0 && packed[0] == packedZstd:
		return p.dec.DecodeAll(packed[1:], nil)
	}
	return nil, errEntry
}

// sealed makes the value of an entry for the slow tiers: the first worker that writes it packs and seals it, for all of them. plain
// is the encoded entry; a nil key is for everybody's.
func (s *Store) sealed(k tier.Key, credential func() (*sealKey, error), plain []byte) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		packed := s.packer.pack(plain)
		dst := make([]byte, 0, len(packed)+sealOverhead)
		if credential == nil {
			return s.sealer.sealPublic(dst, k, packed), nil
		}
		c, err := credential()
		if err != nil {
			return nil, err
		}
		return s.sealer.sealPrivate(dst, k, c, packed), nil
	})
}
