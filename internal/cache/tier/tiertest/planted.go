package tiertest

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// forge makes a stored value as tier.Codec writes it, checksum and all, of whatever parts.
func forge(key tier.Key, form byte, expires time.Time, tokens []tier.Token, payload []byte) []byte {
	rest := binary.BigEndian.AppendUint64(nil, uint64(expires.UnixMilli()))
	rest = append(rest, byte(len(tokens)))
	for _, token := range tokens {
		rest = binary.BigEndian.AppendUint64(rest, uint64(token))
	}
	rest = append(rest, payload...)
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Update(crc32.Checksum(key[:], table), table, []byte{form}), table, rest)
	return append(binary.BigEndian.AppendUint32([]byte{form}, sum), rest...)
}

// RunPlanted is for tiers that keep what tier.Codec makes, of values of 1 MiB at most: it plants values that somebody made who
// knows the format. What is wrong in itself is a miss, and goes; what is only old is a miss. plant puts a value in the place of
// those of all entries in the database. RunPlanted closes the tier.
func RunPlanted(t *testing.T, held tier.Tier, plant func(value []byte)) {
	w := begin(t, held)
	later := time.Now().Add(time.Hour)
	for _, tt := range []struct {
		name    string
		form    byte
		expires time.Time
		tokens  func(own tier.Token) []tier.Token
		payload []byte
		want    string
	}{
		{"as we do", 1, later, nil, []byte("plain"), "plain"},
		{"as an older version did", 2, later, nil, []byte("plain"), ""},
		{"a large value", 1, later, nil, make([]byte, 1<<20+1), ""},
		{"a huge value", 1, later, nil, make([]byte, 3<<20), ""},
		{"an unknown form", 3, later, nil, []byte("plain"), ""},
		{"expired", 1, time.Now().Add(-time.Second), nil, []byte("plain"), ""},
		{"long expired", 1, time.Unix(0, 0).Add(-time.Hour), nil, []byte("plain"), ""},
		{"no tokens", 1, later, func(tier.Token) []tier.Token { return nil }, []byte("plain"), ""},
		{"a token too many", 1, later, func(own tier.Token) []tier.Token { return []tier.Token{own, own} }, []byte("plain"), ""},
		{"200 tokens", 1, later, func(own tier.Token) []tier.Token { return make([]tier.Token, 200) }, []byte("plain"), ""},
		{"another token", 1, later, func(own tier.Token) []tier.Token { return []tier.Token{own + 1} }, []byte("plain"), ""},
	} {
		e := newEntry(1)
		tokens := w.store(e, []byte("there"))
		if tt.tokens != nil {
			tokens = tt.tokens(tokens[0])
		}
		plant(forge(e.key, tt.form, tt.expires, tokens, tt.payload))
		if got := w.readOne(e).Value; string(got) != tt.want || (got == nil) != (tt.want == "") {
			t.Errorf("%s: got %.40q, want %.40q", tt.name, got, tt.want)
		}
		if err := held.Delete(w.ctx, []tier.Key{e.key}); err != nil {
			t.Fatal(err)
		}
	}

	// A value in another entry's place.
	mine, other := newEntry(1), newEntry(1)
	tokens := w.store(mine, []byte("there"))
	plant(forge(other.key, 1, later, tokens, []byte("the other's")))
	w.wantValue(mine, nil)
	w.store(other, []byte("works"))
	w.wantValue(other, []byte("works"))
}
