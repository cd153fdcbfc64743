package sqldb_test

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// forge makes a stored value as the package writes it, checksum and all, of whatever parts.
func forge(e entry, form byte, expires time.Time, tokens []tier.Token, payload []byte) []byte {
	rest := binary.BigEndian.AppendUint64(nil, uint64(expires.UnixMilli()))
	rest = append(rest, byte(len(tokens)))
	for _, token := range tokens {
		rest = binary.BigEndian.AppendUint64(rest, uint64(token))
	}
	rest = append(rest, payload...)
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Update(crc32.Checksum(e.key[:], table), table, []byte{form}), table, rest)
	return append(binary.BigEndian.AppendUint32([]byte{form}, sum), rest...)
}

// hostile plants values that somebody made who knows the format. plant puts a value in the entry's place in the database.
// What is wrong in itself is a miss, and goes; what is only old is a miss.
func hostile(t *testing.T, held tier.Tier, plant func(value []byte)) {
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
		e := newEntry()
		store(t, held, e, []byte("there"))
		_, own := read(t, held, e)
		tokens := []tier.Token{own}
		if tt.tokens != nil {
			tokens = tt.tokens(own)
		}
		plant(forge(e, tt.form, tt.expires, tokens, tt.payload))
		if got, _ := read(t, held, e); string(got) != tt.want || (got == nil) != (tt.want == "") {
			t.Errorf("%s: got %.40q, want %.40q", tt.name, got, tt.want)
		}
		if err := held.Delete(t.Context(), []tier.Key{e.key}); err != nil {
			t.Fatal(err)
		}
	}

	// A value in another entry's place.
	mine, other := newEntry(), newEntry()
	store(t, held, mine, []byte("there"))
	_, own := read(t, held, mine)
	plant(forge(other, 1, later, []tier.Token{own}, []byte("the other's")))
	wantNone(t, held, mine)
	if !works(t, held) {
		t.Error("it does not work")
	}
}

func TestSQLiteTrustsNoValue(t *testing.T) {
	dir := t.TempDir()
	held := openSQLite(t, at(dir))
	defer closeTier(t, held)
	hostile(t, held, func(value []byte) { alter(t, dir+"/cache.db", "UPDATE entries SET value = ?", value) })
}

func TestPostgresTrustsNoValue(t *testing.T) {
	s := commonPostgres(t)
	held := openPostgres(t, s, nil)
	defer closeTier(t, held)
	hostile(t, held, func(value []byte) { s.exec("UPDATE fluentd_perf_entries SET value = $1", value) })
}

// TestSQLiteTrustsNoToken plants tokens.
func TestSQLiteTrustsNoToken(t *testing.T) {
	dir := t.TempDir()
	held := openSQLite(t, at(dir))
	kept, zero, old := newEntry(), newEntry(), newEntry()
	for _, e := range []entry{kept, zero, old} {
		store(t, held, e, []byte("kept"))
	}
	closeTier(t, held)
	path := dir + "/cache.db"
	alter(t, path, "UPDATE tokens SET token = 0 WHERE generation = ?", zero.generation[:])
	alter(t, path, "UPDATE tokens SET used = 1 WHERE generation = ?", old.generation[:])
	alter(t, path, "INSERT INTO tokens VALUES (x'', 1, 9e15), (x'01', 1, 1e10), ('text', 'text', 1e10), (x'02', 1, 'text'), (zeroblob(5000000), 1, 1e10)")
	held = openSQLite(t, at(dir))
	defer closeTier(t, held)
	wantValue(t, held, kept, "kept")
	for _, e := range []entry{zero, old} {
		wantNone(t, held, e)
		if _, token := read(t, held, e); token == 0 {
			t.Error("a token of 0")
		}
		store(t, held, e, []byte("new"))
		wantValue(t, held, e, "new")
	}
}
