package cache

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
)

// TestPacked: what is packed comes back, text takes a tenth, and noise takes a byte more.
func TestPacked(t *testing.T) {
	const most = 1 << 20
	p, err := newPacker(most)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	noise := make([]byte, 100_000)
	_, _ = rand.Read(noise)
	for name, test := range map[string]struct {
		plain []byte
		most  int
	}{
		"nothing": {[]byte{}, 1},
		"little":  {bytes.Repeat([]byte("x"), compressAbove), compressAbove + 1},
		"text":    {bytes.Repeat([]byte(`{"name":"a tool","description":"what it does"},`), 20_000), most / 10},
		"noise":   {noise, len(noise) + 1},
		"longest": {make([]byte, most), most},
	} {
		packed := p.pack(test.plain)
		if len(packed) > test.most {
			t.Errorf("%s: %d bytes take %d, want at most %d", name, len(test.plain), len(packed), test.most)
		}
		if got, err := p.unpack(packed); err != nil || !bytes.Equal(got, test.plain) {
			t.Errorf("%s: %d bytes came back, %v", name, len(got), err)
		}
	}
	large, err := newPacker(2 * most)
	if err != nil {
		t.Fatal(err)
	}
	defer large.close()
	for name, bad := range map[string][]byte{
		"nothing": nil, "an entry of an older version": {1, 0}, "no frame": {packedZstd, 1, 2, 3},
		"cut": p.pack([]byte(strings.Repeat("text ", 1000)))[:20], "too long": large.pack(make([]byte, 2*most)),
		"many frames in a row": append([]byte{packedZstd}, bytes.Repeat(p.pack(make([]byte, most))[1:], 16)...),
	} {
		if got, err := p.unpack(bad); err == nil {
			t.Errorf("%s is %d bytes", name, len(got))
		}
	}
}
