package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"slices"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/http1/header"
)

// What a slow tier gets is sealed: whoever reads its files sees nothing private, whoever writes them can plant nothing.
// A sealed entry is
//
//	format, kind, then
//	kind private: a nonce of 12 bytes, the entry under AES-256-GCM, a tag of 16 bytes
//	kind public:  the entry in clear, an HMAC-SHA256 of 32 bytes
//
// Format, kind and the entry's Key are authenticated in both, so that an entry opens only as what it was and where it was.
const (
	sealFormat  = 1 // another one does not open
	kindPrivate = 1
	kindPublic  = 2

	sealHead  = 2
	nonceSize = 12
	tagSize   = 16
)

// sealOverhead is the most that sealing adds to an entry, in bytes.
const sealOverhead = sealHead + max(nonceSize+tagSize, sha256.Size)

// errSeal is the error of everything that does not open: whoever planted it need not know why.
var errSeal = errors.New("cache: a stored entry does not open")

// The labels keep the keys apart that come from one partition key. The label of credentials also keeps their keys from
// what the state directory holds: the first step of HKDF is an HMAC (RFC 5869, section 2.2), and without the label it
// would be the very one that makes a partition. No header can have a label's name.
const (
	labelCredential = "fluentd-perf/seal/credential"
	labelPrivate    = "fluentd-perf/seal/private"
	labelPublic     = "fluentd-perf/seal/public"
)

// sealKey is what opens the private entries of one principal. It is made of the partition key and of the headers by which
// the principal is known, and cannot be made from the partition. It is safe for concurrent use.
type sealKey struct{ aead cipher.AEAD }

// sealKey derives the key of a request with these headers and this query, as they go upstream. Requests of one partition have one
// key.
func (p *partitioner) sealKey(h header.List, query string) (*sealKey, error) {
	return p.sealKeyOf(p.sealIdentity(h, query))
}

// sealIdentity is what a sealKey is made of: the headers and the query by which the principal is known.
func (p *partitioner) sealIdentity(h header.List, query string) []byte {
	return p.appendIdentity(appendPart(make([]byte, 0, 512), labelCredential), h, query)
}

func (p *partitioner) sealKeyOf(identity []byte) (*sealKey, error) {
	key, err := hkdf.Key(sha256.New, identity, p.secret.raw, labelPrivate, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	// Random nonces are good for 2^32 entries of one key (NIST SP 800-38D, section 8.3).
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &sealKey{aead}, nil
}

// sealer seals and opens what goes to slow tiers. It is safe for concurrent use.
type sealer struct{ public []byte }

func newSealer(secret *secret) *sealer {
	key, err := hkdf.Key(sha256.New, secret.raw, nil, labelPublic, sha256.Size)
	if err != nil {
		panic("cache: bug: a Secret from which no key can be derived: " + err.Error())
	}
	return &sealer{public: key}
}

// sealPrivate appends an entry that only this key opens. plain and dst must not overlap.
func (s *sealer) sealPrivate(dst []byte, k tier.Key, c *sealKey, plain []byte) []byte {
	dst = slices.Grow(dst, len(plain)+sealOverhead)
	dst = append(dst, sealFormat, kindPrivate)
	bound := boundTo(kindPrivate, k)
	return c.aead.Seal(dst, nil, plain, bound[:])
}

// sealPublic appends an entry that every daemon with the partition key opens, and everybody can read. plain and dst must
// not overlap.
func (s *sealer) sealPublic(dst []byte, k tier.Key, plain []byte) []byte {
	dst = slices.Grow(dst, len(plain)+sealOverhead)
	dst = append(dst, sealFormat, kindPublic)
	dst = append(dst, plain...)
	return s.appendMAC(dst, k, plain)
}

// open returns the entry that was sealed under this key, and whether it is a public one. c may be nil: then only public
// entries open. The entry may share stored's memory; stored is not changed. Every error is errSeal.
func (s *sealer) open(k tier.Key, c *sealKey, stored []byte) (plain []byte, public bool, err error) {
	if len(stored) < sealHead || stored[0] != sealFormat {
		return nil, false, errSeal
	}
	sealed := stored[sealHead:]
	switch {
	case stored[1] == kindPrivate && c != nil:
		bound := boundTo(kindPrivate, k)
		if plain, err = c.aead.Open(nil, nil, sealed, bound[:]); err != nil {
			return nil, false, errSeal
		}
		return plain, false, nil
	case stored[1] == kindPublic && len(sealed) >= sha256.Size:
		n := len(sealed) - sha256.Size
		var room [sha256.Size]byte
		if !hmac.Equal(sealed[n:], s.appendMAC(room[:0], k, sealed[:n])) {
			return nil, false, errSeal
		}
		return sealed[:n:n], true, nil
	}
	return nil, false, errSeal
}

// appendMAC appends the HMAC of a public entry.
func (s *sealer) appendMAC(dst []byte, k tier.Key, plain []byte) []byte {
	h := hmac.New(sha256.New, s.public)
	bound := boundTo(kindPublic, k)
	h.Write(bound[:])
	h.Write(plain)
	return h.Sum(dst)
}

// binding is what is authenticated besides the entry. Its length is fixed, so nothing can move from it into the entry.
type binding [sealHead + len(tier.Key{})]byte

func boundTo(kind byte, k tier.Key) (b binding) {
	b[0], b[1] = sealFormat, kind
	copy(b[sealHead:], k[:])
	return b
}
