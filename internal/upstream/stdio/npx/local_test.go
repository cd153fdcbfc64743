package npx

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestManifestsAreReadOnce: a package.json that has not changed is not read again, and one that has is.
func TestManifestsAreReadOnce(t *testing.T) {
	dir, k := t.TempDir(), &manifests{}
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "package.json"), fmt.Appendf(nil, `{"name": %q}`, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(want string) *manifest {
		t.Helper()
		m, err := k.read(dir)
		if err != nil || want == "" != (m == nil) || m != nil && string(m.Name) != `"`+want+`"` {
			t.Fatalf("got %+v, %v, want %q", m, err, want)
		}
		return m
	}
	read("")
	write("one")
	if first, again := read("one"), read("one"); first != again {
		t.Error("it was read again")
	}
	write("another")
	read("another")
	if err := os.Remove(filepath.Join(dir, "package.json")); err != nil {
		t.Fatal(err)
	}
	read("")
	write("one")
	read("one")
	for n := range maxManifests + 10 {
		k.by[fmt.Sprint(n)] = knownManifest{}
	}
	write("many")
	if read("many"); len(k.by) != 1 {
		t.Errorf("%d are kept", len(k.by))
	}
}
