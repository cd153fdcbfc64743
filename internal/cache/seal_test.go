package cache

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/http1/header"
)

var entryKey = tier.Key(sha256.Sum256([]byte("a key")))

// sealing is one daemon's.
func sealing(partitionKey string) (*sealer, *partitioner) {
	secret := newSecret([]byte(partitionKey))
	return newSealer(secret), &partitioner{secret: secret, inert: map[string]bool{"X-Trace": true}}
}

const somePartitionKey = "0123456789abcdef0123456789abcdef"

func bearerHeader(token string) header.List {
	return header.Of(http.Header{"Authorization": {"Bearer " + token}})
}

func mustCredential(tb testing.TB, p *partitioner, h header.List) *sealKey {
	tb.Helper()
	c, err := p.sealKey(h, "")
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestSealRoundTrip(t *testing.T) {
	s, p := sealing(somePartitionKey)
	c := mustCredential(t, p, bearerHeader("a"))
	most := 0
	for _, size := range []int{0, 1, 15, 16, 17, 1000, 100_000} {
		plain := bytes.Repeat([]byte("plain"), size/5+1)[:size]
		for _, public := range []bool{false, true} {
			stored := s.sealPrivate([]byte("before"), entryKey, c, plain)
			if public {
				stored = s.sealPublic([]byte("before"), entryKey, plain)
			}
			rest, ok := bytes.CutPrefix(stored, []byte("before"))
			if !ok {
				t.Fatalf("%d bytes, public %v: what was in dst is gone", size, public)
			}
			most = max(most, len(rest)-size)
			copied := bytes.Clone(rest)
			got, isPublic, err := s.open(entryKey, c, rest)
			if err != nil || isPublic != public || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes, public %v: opened as %d bytes, public %v, %v", size, public, len(got), isPublic, err)
			}
			_ = append(got, "more"...)
			if !bytes.Equal(rest, copied) {
				t.Errorf("%d bytes, public %v: stored was changed", size, public)
			}
		}
	}
	if most != sealOverhead {
		t.Errorf("sealing adds up to %d bytes, sealOverhead is %d", most, sealOverhead)
	}
}

func TestSealHidesPrivateEntries(t *testing.T) {
	s, p := sealing(somePartitionKey)
	c := mustCredential(t, p, bearerHeader("a"))
	plain := []byte(strings.Repeat("nobody else's business", 10))
	one, two := s.sealPrivate(nil, entryKey, c, plain), s.sealPrivate(nil, entryKey, c, plain)
	if bytes.Contains(one, plain[:8]) {
		t.Error("the entry is readable")
	}
	if bytes.Equal(one[:14], two[:14]) || bytes.Equal(one[14:], two[14:]) {
		t.Error("an entry that is sealed twice looks the same twice")
	}
	if _, _, err := s.open(entryKey, nil, one); !errors.Is(err, errSeal) {
		t.Errorf("opened without a credential: %v", err)
	}
	if got, public, err := s.open(entryKey, nil, s.sealPublic(nil, entryKey, plain)); err != nil || !public || !bytes.Equal(got, plain) {
		t.Errorf("a public entry wants a credential: %v", err)
	}
}

// Whatever is altered, cut, lengthened, planted under another key, made by another daemon or of the other kind stays shut.
func TestSealRefuses(t *testing.T) {
	s, p := sealing(somePartitionKey)
	c := mustCredential(t, p, bearerHeader("a"))
	plain := []byte("an entry")
	other, otherPartition := sealing("another partition key of 32 bytes")
	otherCredential := mustCredential(t, otherPartition, bearerHeader("a"))
	refused := func(what string, k tier.Key, c *sealKey, stored []byte) {
		t.Helper()
		if got, _, err := s.open(k, c, stored); err != errSeal || got != nil {
			t.Errorf("%s: opened as %q, %v", what, got, err)
		}
	}
	refused("nothing", entryKey, c, nil)
	refused("another daemon's private entry", entryKey, c, other.sealPrivate(nil, entryKey, otherCredential, plain))
	refused("another daemon's public entry", entryKey, c, other.sealPublic(nil, entryKey, plain))
	refused("another principal's entry", entryKey, mustCredential(t, p, bearerHeader("b")), s.sealPrivate(nil, entryKey, c, plain))
	for kind, stored := range map[string][]byte{
		"private": s.sealPrivate(nil, entryKey, c, plain), "public": s.sealPublic(nil, entryKey, plain),
	} {
		for i := range stored {
			for bit := range 8 {
				changed := bytes.Clone(stored)
				changed[i] ^= 1 << bit
				refused(fmt.Sprintf("%s, bit %d of byte %d", kind, bit, i), entryKey, c, changed)
			}
			refused(fmt.Sprintf("%s, cut at %d", kind, i), entryKey, c, stored[:i])
			refused(fmt.Sprintf("%s, from %d", kind, i+1), entryKey, c, stored[i+1:])
		}
		refused(kind+", a byte more", entryKey, c, append(bytes.Clone(stored), 0))
		refused(kind+", twice", entryKey, c, append(bytes.Clone(stored), stored...))
		for i := range entryKey {
			other := entryKey
			other[i] ^= 1
			refused(fmt.Sprintf("%s, under a key that differs at %d", kind, i), other, c, stored)
		}
	}
}

// One partition, one credential, and the other way round.
func TestCredentialIsThePartitions(t *testing.T) {
	s, p := sealing(somePartitionKey)
	principal := func(pairs ...string) header.List {
		h := header.List{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	same := [][]header.List{
		{principal(), nil, principal("Accept", "x"), principal("X-Trace", "1"), principal("Sec-Fetch-Mode", "cors")},
		{bearerHeader("a"), principal("Authorization", "Bearer a", "User-Agent", "u"), principal("Mcp-Session-Id", "s", "authorization", "Bearer a")},
		{principal("A", "1", "B", "2"), principal("B", "2", "A", "1")},
		{bearerHeader("A")}, {bearerHeader("a ")},
		{principal("A", "1", "A", "2")}, {principal("A", "2", "A", "1")}, {principal("A", "12")}, {principal("A", "1,2")}, {principal("A", "1")},
		{principal("A", "1", "B", "")}, {principal("A", "1B2")}, {principal("A", "")}, {principal("X-Api-Key", "k")},
	}
	for i, group := range same {
		stored := s.sealPrivate(nil, entryKey, mustCredential(t, p, group[0]), []byte("entry"))
		for j, other := range same {
			for _, h := range other {
				_, _, err := s.open(entryKey, mustCredential(t, p, h), stored)
				if opened := err == nil; opened != (i == j) {
					t.Errorf("what %v sealed opens for %v: %v", group[0], h, opened)
				}
				a, _ := p.of(group[0], "", nil)
				if b, _ := p.of(h, "", nil); (a == b) != (i == j) {
					t.Errorf("%v and %v have one partition: %v", group[0], h, a == b)
				}
			}
		}
	}
}

// The Partition is in the state directory. It must not be the way to the credential's key, also together with the
// partition key, which is there as well.
func TestPartitionOpensNothing(t *testing.T) {
	s, p := sealing(somePartitionKey)
	h := bearerHeader("a")
	stored := s.sealPrivate(nil, entryKey, mustCredential(t, p, h), []byte("entry"))
	partition, _ := p.of(h, "", nil)
	mac := hmac.New(sha256.New, p.secret.raw)
	mac.Write(p.appendIdentity(nil, h, ""))
	if !bytes.Equal(mac.Sum(nil), partition[:]) {
		t.Fatal("appendIdentity and of disagree")
	}
	for _, label := range []string{labelPrivate, labelCredential, labelPublic, ""} {
		keys := [][]byte{partition[:], p.secret.raw, s.public}
		expanded, _ := hkdf.Expand(sha256.New, partition[:], label, 32)
		keys = append(keys, expanded)
		for _, salt := range [][]byte{nil, p.secret.raw, partition[:]} {
			for _, material := range [][]byte{nil, p.secret.raw, partition[:], append(appendPart(nil, labelCredential), partition[:]...)} {
				derived, _ := hkdf.Key(sha256.New, material, salt, label, 32)
				keys = append(keys, derived)
			}
		}
		for i, key := range keys {
			block, err := aes.NewCipher(key)
			if err != nil {
				t.Fatal(err)
			}
			aead, _ := cipher.NewGCMWithRandomNonce(block)
			if _, _, err := s.open(entryKey, &sealKey{aead}, stored); err == nil {
				t.Errorf("label %q, key %d: opened without the credential", label, i)
			}
		}
	}
}

// Entries that were sealed by the first release with this format: whoever changes the format changes sealFormat.
const (
	goldenPrivate = "01014bdd3bbc3081a390eca5be1381192421ea5718ca97a7422681bb5655036f27a1bc90"
	goldenPublic  = "0102676f6c64656e431fe057d9b3fa76ce408d78281cdececee67f77db8369e12ee8d96cd5c4b50e"
)

func goldenSeal(tb testing.TB, digits string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestSealFormat(t *testing.T) {
	s, p := sealing(somePartitionKey)
	c := mustCredential(t, p, bearerHeader("a"))
	for _, digits := range []string{goldenPrivate, goldenPublic} {
		got, public, err := s.open(entryKey, c, goldenSeal(t, digits))
		if err != nil || string(got) != "golden" || public != (digits == goldenPublic) {
			t.Errorf("opened as %q, public %v, %v\nnow: %x\n%x", got, public, err,
				s.sealPrivate(nil, entryKey, c, []byte("golden")), s.sealPublic(nil, entryKey, []byte("golden")))
		}
	}
}

// Nothing opens but what was sealed.
func FuzzOpen(f *testing.F) {
	s, p := sealing(somePartitionKey)
	c := mustCredential(f, p, bearerHeader("a"))
	private, public := goldenSeal(f, goldenPrivate), goldenSeal(f, goldenPublic)
	for _, seed := range [][]byte{private, public, nil, {1}, {1, 1}, {1, 2}, {2, 1}, private[:30], public[:34], private[2:], public[:33]} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Add(append([]byte{1, 2}, private[2:]...), true)
	f.Add(append([]byte{1, 1}, public[2:]...), true)
	f.Fuzz(func(t *testing.T, stored []byte, known bool) {
		with := c
		if !known {
			with = nil
		}
		before := bytes.Clone(stored)
		plain, isPublic, err := s.open(entryKey, with, stored)
		if !bytes.Equal(stored, before) {
			t.Fatal("stored was changed")
		}
		switch {
		case err != nil && (err != errSeal || plain != nil || isPublic):
			t.Fatalf("%q, public %v, with the error %v", plain, isPublic, err)
		case err == nil && isPublic && !bytes.Equal(stored, public),
			err == nil && !isPublic && (!known || !bytes.Equal(stored, private)):
			t.Fatalf("%x opened as %q", stored, plain)
		}
	})
}

func BenchmarkCredential(b *testing.B) {
	_, p := sealing(somePartitionKey)
	h := header.Of(http.Header{"Authorization": {"Bearer " + strings.Repeat("t", 200)}, "Accept": {"application/json"}, "User-Agent": {"agent"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.sealKey(h, ""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	s, p := sealing(somePartitionKey)
	c := mustCredential(b, p, bearerHeader("a"))
	for _, size := range []int{1 << 10, 100 << 10} {
		plain := make([]byte, size)
		dst := make([]byte, 0, size+sealOverhead)
		private, public := s.sealPrivate(nil, entryKey, c, plain), s.sealPublic(nil, entryKey, plain)
		run := func(name string, do func()) {
			b.Run(fmt.Sprintf("%s/%dKB", name, size>>10), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					do()
				}
			})
		}
		run("seal/private", func() { s.sealPrivate(dst, entryKey, c, plain) })
		run("seal/public", func() { s.sealPublic(dst, entryKey, plain) })
		opens := func(stored []byte) func() {
			return func() {
				if _, _, err := s.open(entryKey, c, stored); err != nil {
					b.Fatal(err)
				}
			}
		}
		run("open/private", opens(private))
		run("open/public", opens(public))
	}
}
