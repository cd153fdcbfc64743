package cache

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/safefile"
)

const someIdentity = "https://example.com/mcp\nAuthorization: Bearer configured-secret"

func somePartition(n int) partition { return sha256.Sum256(fmt.Append(nil, "partition ", n)) }

func mustOpenState(tb testing.TB, dir string, shared []byte) *State {
	tb.Helper()
	s, err := OpenState(dir, shared)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// endRun saves and closes, as a daemon does at its clean end.
func endRun(tb testing.TB, s *State) {
	tb.Helper()
	err := s.save(map[string]map[partition]time.Time{someIdentity: {somePartition(1): time.Now()}},
		map[string]bool{"redis": false, "database": true})
	if err := errors.Join(err, s.Close()); err != nil {
		tb.Fatal(err)
	}
}

// remembers reports whether a State has what endRun left.
func remembers(s *State) bool {
	_, known := s.credentials(someIdentity)[somePartition(1)]
	return known && s.untold("redis") && s.complete("database")
}

func stateFiles(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			tb.Fatal(err)
		}
		if info.Mode() != 0o600 {
			tb.Errorf("%s has the mode %v", e.Name(), info.Mode())
		}
		names = append(names, e.Name())
	}
	return names
}

func TestStateOverARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	first := mustOpenState(t, dir, nil)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
	if first.Unclean() || len(first.Warnings()) > 0 || first.Dir() != dir || len(first.credentials(someIdentity)) > 0 || len(first.saved.Tiers) > 0 {
		t.Errorf("the first start finds something: unclean %v, %q", first.Unclean(), first.Warnings())
	}
	if got, want := stateFiles(t, dir), []string{lockName, markerName, keyName}; !slices.Equal(got, want) {
		t.Errorf("files while it runs: %q, want %q", got, want)
	}
	endRun(t, first)
	if got, want := stateFiles(t, dir), []string{savedName, lockName, keyName}; !slices.Equal(got, want) {
		t.Errorf("files after the end: %q, want %q", got, want)
	}
	second := mustOpenState(t, dir, nil)
	if second.Unclean() || len(second.Warnings()) > 0 || second.KeyID() != first.KeyID() {
		t.Errorf("unclean %v, %q, key %s, then %s", second.Unclean(), second.Warnings(), first.KeyID(), second.KeyID())
	}
	if !remembers(second) {
		t.Errorf("remembers %v and %v", second.credentials(someIdentity), second.saved.Tiers)
	}
	if len(second.credentials("another")) > 0 || second.complete("redis") || second.untold("database") || second.complete("another") || second.untold("another") {
		t.Error("remembers what nobody told it")
	}
}

// An identity holds configured headers. Its place in the file tells nothing of it, and cannot be tried out without the key.
func TestStateTellsNoSecrets(t *testing.T) {
	names := make(map[string]bool)
	for range 2 {
		dir := t.TempDir()
		s := mustOpenState(t, dir, nil)
		endRun(t, s)
		content := must(os.ReadFile(filepath.Join(dir, savedName)))
		var file struct{ State savedState }
		if err := json.Unmarshal(content, &file); err != nil || len(file.State.Credentials) != 1 {
			t.Fatalf("%s: %v", content, err)
		}
		name := file.State.Credentials[0].Identity
		if len(name) != sha256.Size {
			t.Errorf("an identity stands there as %q", name)
		}
		names[string(name)] = true
		for _, secret := range [][]byte{[]byte("configured-secret"), s.secret.raw} {
			if bytes.Contains(content, secret) || bytes.Contains(content, base64.StdEncoding.AppendEncode(nil, secret)[:len(secret)]) {
				t.Errorf("%s holds %q", content, secret)
			}
		}
	}
	if len(names) != 2 {
		t.Error("an identity has one name under two keys")
	}
}

func TestStateCredentialsLiveTenMinutes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		first := mustOpenState(t, dir, nil)
		now := time.Now()
		times := map[partition]time.Time{
			somePartition(0): now, somePartition(9): now.Add(-9 * time.Minute), somePartition(10): now.Add(-10 * time.Minute),
			somePartition(5): now.Add(-5 * time.Minute), somePartition(-1): now.Add(time.Minute),
		}
		if err := errors.Join(first.save(map[string]map[partition]time.Time{someIdentity: times}, nil), first.Close()); err != nil {
			t.Fatal(err)
		}
		second := mustOpenState(t, dir, nil)
		alive := func(want ...int) {
			t.Helper()
			got := second.credentials(someIdentity)
			if len(got) != len(want) {
				t.Errorf("%v after the save: %d credentials, want %d", time.Since(now), len(got), len(want))
			}
			for _, n := range want {
				if at, ok := got[somePartition(n)]; !ok || !at.Equal(times[somePartition(n)]) {
					t.Errorf("%v after the save: credential %d is of %v", time.Since(now), n, at)
				}
			}
		}
		alive(0, 9, 5) // not the one from the future: the clock was set back
		<-time.After(time.Minute)
		alive(0, 5, -1)
		<-time.After(9*time.Minute - time.Millisecond)
		alive(0, -1)
		<-time.After(time.Millisecond)
		alive(-1)
		<-time.After(time.Minute)
		alive()
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestStateSharedKey(t *testing.T) {
	dir, shared := t.TempDir(), []byte("a key that several daemons share")
	first := mustOpenState(t, dir, shared)
	if first.KeyID() != newSecret(shared).id {
		t.Error("the shared key is not used")
	}
	endRun(t, first)
	if got, want := stateFiles(t, dir), []string{savedName, lockName}; !slices.Equal(got, want) {
		t.Errorf("files: %q, want %q", got, want)
	}
	again := mustOpenState(t, dir, shared)
	if !remembers(again) {
		t.Error("the next run with the key remembers nothing")
	}
	endRun(t, again)
	other := mustOpenState(t, dir, nil)
	if len(other.Warnings()) != 1 || !other.Unclean() || len(other.credentials(someIdentity)) > 0 || other.untold("redis") || other.complete("database") {
		t.Errorf("what belongs to another key is used: unclean %v, %q", other.Unclean(), other.Warnings())
	}
	if s, err := OpenState(t.TempDir(), []byte("short")); err == nil || s != nil || !strings.Contains(err.Error(), "cache.partition_key") {
		t.Errorf("a short key: %v", err)
	}
}

func TestStateInUse(t *testing.T) {
	dir := t.TempDir()
	first := mustOpenState(t, dir, nil)
	for range 2 {
		if s, err := OpenState(dir, nil); err != nil || !s.Waits() || s.KeyID() != first.KeyID() {
			t.Fatalf("the second daemon gets %v, %v", s, err)
		}
	}
	if got, want := stateFiles(t, dir), []string{lockName, markerName, keyName}; !slices.Equal(got, want) {
		t.Errorf("the second daemon changed the files: %q, want %q", got, want)
	}
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Error(err)
	}
	if err := first.save(nil, nil); err == nil {
		t.Error("saves in a directory that it has given back")
	}
	if s := mustOpenState(t, dir, nil); !s.Unclean() {
		t.Error("a run that was closed and not saved counts as clean")
	}
}

// A daemon that starts while another drains has its key at once and changes nothing, and takes what that one leaves: all it
// remembered after a clean end, and nothing after another.
func TestStateTakenOver(t *testing.T) {
	for name, clean := range map[string]bool{"clean end": true, "killed": false} {
		for _, shared := range []string{"", "0123456789abcdef"} {
			t.Run(name+" "+shared, func(t *testing.T) {
				dir := t.TempDir()
				first := mustOpenState(t, dir, []byte(shared))
				next, err := OpenState(dir, []byte(shared))
				if err != nil {
					t.Fatal(err)
				}
				defer next.Close()
				if next.KeyID() != first.KeyID() || next.Dir() != dir || !next.Waits() {
					t.Errorf("key %s, directory %q, waits %v", next.KeyID(), next.Dir(), next.Waits())
				}
				for range 2 {
					if done, err := next.join(); done || !errors.Is(err, errStateInUse) || next.save(nil, nil) != nil || next.Unclean() || remembers(next) {
						t.Fatalf("beside the first: %v, unclean %v", err, next.Unclean())
					}
				}
				if clean {
					endRun(t, first)
				} else if err := first.Close(); err != nil {
					t.Fatal(err)
				}
				if done, err := next.join(); !done || err != nil || next.Waits() || next.Unclean() == clean || remembers(next) != clean {
					t.Errorf("%v, waits %v, unclean %v, remembers %v", err, next.Waits(), next.Unclean(), remembers(next))
				}
				if s, err := OpenState(dir, nil); err != nil || !s.Waits() {
					t.Errorf("a third one gets %v", err)
				}
				endRun(t, next)
				if s := mustOpenState(t, dir, []byte(shared)); s.Unclean() || !remembers(s) {
					t.Error("what the second one saved is not there")
				}
			})
		}
	}
}

// Daemons that start together have one key, whether or not the lock holds.
func TestStateOneKey(t *testing.T) {
	const many = 16
	dir := t.TempDir()
	together := func(id func() (string, error)) {
		t.Helper()
		ids := make([]string, many)
		var group sync.WaitGroup
		for i := range ids {
			group.Go(func() {
				var err error
				if ids[i], err = id(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if ids = slices.Compact(ids); len(ids) != 1 || ids[0] == "" {
			t.Errorf("keys: %q", ids)
		}
	}
	together(func() (string, error) {
		key, err := (&State{dir: dir}).ownKey()
		return newSecret(key).id, err
	})
	if got := stateFiles(t, dir); !slices.Equal(got, []string{keyName}) {
		t.Errorf("files: %q", got)
	}
	dir = t.TempDir()
	together(func() (string, error) {
		for {
			s, err := OpenState(dir, nil)
			if err != nil {
				return "", err
			}
			if s.Waits() {
				continue
			}
			return s.KeyID(), s.Close()
		}
	})
}

// What a run leaves that ends between two steps, of its start or of its save.
func TestStateAfterEachStep(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	endRun(t, mustOpenState(t, dir, nil))
	saved, err := os.ReadFile(filepath.Join(dir, savedName))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, keyName))
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		what    string
		leave   func()
		unclean bool
		known   bool
		newKey  bool
	}{
		{"nothing but the directory", func() {}, false, false, true},
		{"the lock", func() { put(lockName, "") }, false, false, true},
		{"half a key", func() { put(keyName+".1"+safefile.TempSuffix, "half") }, false, false, true},
		{"a whole key not yet in its place", func() { put(keyName+".1"+safefile.TempSuffix, string(key)) }, false, false, true},
		{"the key, linked twice", func() { put(keyName, string(key)); put(keyName+".1"+safefile.TempSuffix, string(key)) }, false, false, false},
		{"the key", func() { put(keyName, string(key)) }, false, false, false},
		{"what the run before saved, no marker yet", func() { put(keyName, string(key)); put(savedName, string(saved)) }, false, true, false},
		{"the marker", func() { put(keyName, string(key)); put(savedName, string(saved)); put(markerName, "") }, true, false, false},
		{"the first run's marker", func() { put(keyName, string(key)); put(markerName, "") }, true, false, false},
		{"half a state", func() {
			put(keyName, string(key))
			put(markerName, "")
			put(savedName+".1"+safefile.TempSuffix, string(saved[:len(saved)/2]))
		}, true, false, false},
	}
	for _, step := range steps {
		dir = t.TempDir()
		step.leave()
		s := mustOpenState(t, dir, nil)
		if s.Unclean() != step.unclean || remembers(s) != step.known || len(s.Warnings()) > 0 {
			t.Errorf("%s: unclean %v, remembers %v, %q", step.what, s.Unclean(), remembers(s), s.Warnings())
		}
		if sameKey := s.KeyID() == newSecret(key).id; sameKey == step.newKey {
			t.Errorf("%s: the same key: %v", step.what, sameKey)
		}
		endRun(t, s)
		if got, want := stateFiles(t, dir), []string{savedName, lockName, keyName}; !slices.Equal(got, want) {
			t.Errorf("%s: files %q, want %q", step.what, got, want)
		}
		if next := mustOpenState(t, dir, nil); next.Unclean() || !remembers(next) {
			t.Errorf("%s: the run after the next is unclean: %v", step.what, next.Unclean())
		}
	}
}

// After an unclean end nobody is let in for an answer that he may have lost since, no file is taken for complete, and a tier
// that was not told everything is to be told still.
func TestStateUncleanEnd(t *testing.T) {
	dir := t.TempDir()
	endRun(t, mustOpenState(t, dir, nil))
	if err := mustOpenState(t, dir, nil).Close(); err != nil {
		t.Fatal(err)
	}
	s := mustOpenState(t, dir, nil)
	if !s.Unclean() || len(s.credentials(someIdentity)) > 0 || !s.untold("redis") || s.complete("database") {
		t.Errorf("unclean %v, credentials %v, tiers %v", s.Unclean(), s.credentials(someIdentity), s.saved.Tiers)
	}
}

// hostile are things in place of a file, made by functions of its path.
func hostile(tb testing.TB) map[string]func(path string) error {
	elsewhere := filepath.Join(tb.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, make([]byte, keySize), 0o600); err != nil {
		tb.Fatal(err)
	}
	return map[string]func(string) error{
		"a link to a file":  func(p string) error { return os.Symlink(elsewhere, p) },
		"a link to nothing": func(p string) error { return os.Symlink("/nonexistent/file", p) },
		"a link to itself":  func(p string) error { return os.Symlink(p, p) },
		"a directory":       func(p string) error { return os.Mkdir(p, 0o700) },
		"a pipe":            func(p string) error { return syscall.Mkfifo(p, 0o600) },
	}
}

func TestStateHostileKey(t *testing.T) {
	bad := hostile(t)
	for _, size := range []int{0, 1, keySize - 1, keySize + 1, 2 * keySize, 1 << 20} {
		bad[fmt.Sprintf("%d bytes", size)] = func(p string) error { return os.WriteFile(p, make([]byte, size), 0o600) }
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o700, 0o666} {
		bad[fmt.Sprintf("mode %v", mode)] = func(p string) error {
			return errors.Join(os.WriteFile(p, make([]byte, keySize), 0o600), os.Chmod(p, mode))
		}
	}
	for what, make := range bad {
		dir := t.TempDir()
		path := filepath.Join(dir, keyName)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		s, err := OpenState(dir, nil)
		if err == nil || s != nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
			t.Errorf("%s: the key file was touched: %v", what, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if s := mustOpenState(t, dir, nil); s.Unclean() {
			t.Errorf("%s: unclean once it is mended", what)
		}
	}
}

func TestStateKeyReadOnly(t *testing.T) {
	dir := t.TempDir()
	endRun(t, mustOpenState(t, dir, nil))
	if err := os.Chmod(filepath.Join(dir, keyName), 0o400); err != nil {
		t.Fatal(err)
	}
	if s := mustOpenState(t, dir, nil); !remembers(s) {
		t.Error("a key of mode 0400 is another one")
	}
}

// Whatever stands where the last run's state should: the daemon starts, and remembers nothing.
func TestStateHostileSaved(t *testing.T) {
	bad := hostile(t)
	write := func(content string) func(string) error {
		return func(p string) error { return os.WriteFile(p, []byte(content), 0o600) }
	}
	for i, content := range []string{
		"", "\x00", "null", "{}", "[]", "{", `{"state":{},"mac":""}`, `{"state":null,"mac":null}`, `{"state":{"format":1},"mac":"AAAA"}`,
		strings.Repeat("[", 100_000), strings.Repeat(`{"state":`, 100_000), strings.Repeat(" ", 1<<20),
	} {
		bad[fmt.Sprintf("content %d", i)] = write(content)
	}
	bad["9 MiB"] = write(strings.Repeat(" ", 9<<20))
	bad["8 GiB"] = func(p string) error { return errors.Join(write("{")(p), os.Truncate(p, 1<<33)) }
	dir := t.TempDir()
	endRun(t, mustOpenState(t, dir, nil))
	path := filepath.Join(dir, savedName)
	saved, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad["half of it"] = write(string(saved[:len(saved)/2]))
	bad["it twice"] = write(string(saved) + string(saved))
	for what, make := range bad {
		if err := errors.Join(os.RemoveAll(path), make(path)); err != nil {
			t.Fatal(err)
		}
		s := mustOpenState(t, dir, nil)
		if len(s.Warnings()) != 1 || !strings.Contains(s.Warnings()[0], path) || !s.Unclean() {
			t.Errorf("%s: unclean %v, warnings %.200q", what, s.Unclean(), s.Warnings())
		}
		if len(s.credentials(someIdentity)) > 0 || s.untold("redis") || s.complete("database") {
			t.Errorf("%s: something is remembered", what)
		}
		if what == "a directory" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		endRun(t, s)
		next := mustOpenState(t, dir, nil)
		if next.Unclean() || !remembers(next) {
			t.Errorf("%s: the next run is unclean: %v", what, next.Unclean())
		}
		endRun(t, next)
	}
}

// A changed byte makes the file worthless, or changes nothing that it says.
func TestStateAltered(t *testing.T) {
	dir := t.TempDir()
	endRun(t, mustOpenState(t, dir, nil))
	path := filepath.Join(dir, savedName)
	saved, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range saved {
		changed := bytes.Clone(saved)
		changed[i] ^= 1
		s := &State{dir: dir, secret: newSecret(must(os.ReadFile(filepath.Join(dir, keyName))))}
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if s.load() != nil {
			refused++
		} else if !remembers(s) {
			t.Errorf("byte %d: the altered file is taken for another state", i)
		}
	}
	if refused < len(saved)*9/10 {
		t.Errorf("%d of %d alterations were seen", refused, len(saved))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestStateHostileMarker(t *testing.T) {
	for what, make := range hostile(t) {
		dir := t.TempDir()
		if err := make(filepath.Join(dir, markerName)); err != nil {
			t.Fatal(err)
		}
		s := mustOpenState(t, dir, nil)
		if !s.Unclean() {
			t.Errorf("%s in the marker's place counts as none", what)
		}
		endRun(t, s)
		if mustOpenState(t, dir, nil).Unclean() {
			t.Errorf("%s in the marker's place is still there", what)
		}
	}
}

func TestStateHostileLock(t *testing.T) {
	for what, make := range hostile(t) {
		dir := t.TempDir()
		path := filepath.Join(dir, lockName)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenState(dir, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s in the lock's place: %v", what, err)
		}
	}
}

func TestStateHostileDirectory(t *testing.T) {
	for what, make := range hostile(t) {
		path := filepath.Join(t.TempDir(), "state")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if s, err := OpenState(path, nil); (err == nil) != (what == "a directory") || err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		} else if err == nil {
			_ = s.Close()
		}
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if s := mustOpenState(t, dir, nil); len(s.Warnings()) != 1 || s.Unclean() || !strings.Contains(s.Warnings()[0], "0777") {
		t.Errorf("a directory that everybody writes to: %q", s.Warnings())
	}
	// A link to a directory is one: systemd makes state directories so.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	endRun(t, mustOpenState(t, link, nil))
	// A name that would be a pattern is none.
	odd := filepath.Join(t.TempDir(), "[a-", "*")
	if err := errors.Join(os.MkdirAll(odd, 0o700), os.WriteFile(filepath.Join(odd, savedName+".7"+safefile.TempSuffix), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	endRun(t, mustOpenState(t, odd, nil))
	if got, want := stateFiles(t, odd), []string{savedName, lockName, keyName}; !slices.Equal(got, want) {
		t.Errorf("files: %q, want %q", got, want)
	}
}

// A save that did not work leaves an unclean end and the state of the run before.
func TestStateSaveFails(t *testing.T) {
	dir := t.TempDir()
	endRun(t, mustOpenState(t, dir, nil))
	s := mustOpenState(t, dir, nil)
	path := filepath.Join(dir, savedName)
	if err := errors.Join(os.Rename(path, path+".kept"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := s.save(nil, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("saves over a directory: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.Rename(path+".kept", path), s.Close()); err != nil {
		t.Fatal(err)
	}
	if got, want := stateFiles(t, dir), []string{savedName, lockName, markerName, keyName}; !slices.Equal(got, want) {
		t.Errorf("files: %q, want %q", got, want)
	}
	next := mustOpenState(t, dir, nil)
	if !next.Unclean() || !next.untold("redis") {
		t.Errorf("unclean %v, tiers %v", next.Unclean(), next.saved.Tiers)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := next.save(nil, nil); err == nil {
		t.Error("saves in a directory that is gone")
	}
}

// The most that is written can be read again; of more credentials the latest are written.
func TestStateBounds(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenState(t, dir, nil)
	now := time.Now()
	credentials := make(map[string]map[partition]time.Time)
	for n := range maxSavedCredentials + 500 {
		identity := "upstream " + strconv.Itoa(n%7)
		if credentials[identity] == nil {
			credentials[identity] = make(map[partition]time.Time)
		}
		credentials[identity][somePartition(n)] = now.Add(-time.Duration(n) * time.Millisecond)
	}
	if err := errors.Join(s.save(credentials, nil), s.Close()); err != nil {
		t.Fatal(err)
	}
	next := mustOpenState(t, dir, nil)
	if len(next.Warnings()) > 0 {
		t.Fatal(next.Warnings())
	}
	total := 0
	for identity := range credentials {
		total += len(next.credentials(identity))
	}
	if total != maxSavedCredentials {
		t.Errorf("%d credentials are back, want %d", total, maxSavedCredentials)
	}
	for n, want := range map[int]bool{0: true, maxSavedCredentials - 1: true, maxSavedCredentials: false} {
		if _, ok := next.credentials("upstream " + strconv.Itoa(n%7))[somePartition(n)]; ok != want {
			t.Errorf("the credential at place %d is there: %v", n, ok)
		}
	}
}

func TestMemoryState(t *testing.T) {
	a, b := MemoryState(nil), MemoryState(nil)
	if a.KeyID() == b.KeyID() {
		t.Error("two random keys are the same")
	}
	shared := []byte("a key that several daemons share")
	if id := MemoryState(shared).KeyID(); id != newSecret(shared).id {
		t.Error("the shared key is not used")
	}
	err := a.save(map[string]map[partition]time.Time{someIdentity: {somePartition(1): time.Now()}}, map[string]bool{"redis": false})
	if err = errors.Join(err, a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	if a.Dir() != "" || a.Unclean() || len(a.Warnings()) > 0 || len(a.credentials(someIdentity)) > 0 || a.untold("redis") {
		t.Error("remembers something")
	}
}

const (
	stateChild     = "FLUENTD_PERF_TEST_STATE_CHILD"
	stateChildFrom = "FLUENTD_PERF_TEST_STATE_FROM"
)

// TestStateKilled kills daemons that start and end as fast as they can. Whenever that is, the next one starts with the
// same key, knows of a state that is whole and not older than the last one that was saved, and never takes an end for
// clean that was none.
func TestStateKilled(t *testing.T) {
	if dir := os.Getenv(stateChild); dir != "" {
		runs(dir, number(os.Getenv(stateChildFrom)))
		return
	}
	dir := t.TempDir()
	first := mustOpenState(t, dir, nil)
	endRun(t, first)
	clean := 0
	for round := range 20 {
		saved := killRuns(t, dir, 1+round*1_000_000, 1+round%4, round*1000)
		s := mustOpenState(t, dir, nil)
		if len(s.Warnings()) > 0 || s.KeyID() != first.KeyID() {
			t.Fatalf("round %d: %q, key %s, at first %s", round, s.Warnings(), s.KeyID(), first.KeyID())
		}
		if n := binary.BigEndian.Uint64(s.saved.Credentials[0].Partition); int(n) < saved || !s.untold("redis") {
			t.Fatalf("round %d: the state is of run %d, run %d was saved; tiers %v", round, n, saved, s.saved.Tiers)
		}
		if known := len(s.credentials(someIdentity)) > 0; known == s.Unclean() {
			t.Fatalf("round %d: unclean %v, credentials %v", round, s.Unclean(), known)
		}
		if !s.Unclean() {
			clean++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 20 were killed between two runs", clean)
}

// runs is the child: one run after the other, each one's number printed when it has been saved.
func runs(dir string, from int) {
	for n := from; ; n++ {
		s := must(OpenState(dir, nil))
		var one partition
		binary.BigEndian.PutUint64(one[:], uint64(n))
		err := s.save(map[string]map[partition]time.Time{someIdentity: {one: time.Now()}}, map[string]bool{"redis": false})
		if err := errors.Join(err, s.Close()); err != nil {
			panic(err)
		}
		fmt.Println("saved", n)
	}
}

// killRuns starts a child, kills it some time after so many runs, and returns the last run that it said was saved.
func killRuns(t *testing.T, dir string, from, runs, later int) (saved int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestStateKilled$")
	child.Env = append(os.Environ(), stateChild+"="+dir, stateChildFrom+"="+strconv.Itoa(from))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }()
	defer func() { _ = child.Process.Kill() }()
	lines := bufio.NewScanner(out)
	for range runs {
		if !lines.Scan() {
			t.Fatal("the child ended by itself")
		}
		saved = number(lines.Text())
	}
	for sum := [32]byte{}; later > 0; later-- { // so that it is not always in the same step
		sum = sha256.Sum256(sum[:])
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		saved = max(saved, number(lines.Text()))
	}
	return saved
}

func number(line string) int {
	digits, _ := strings.CutPrefix(line, "saved ")
	n, _ := strconv.Atoi(digits)
	return n
}

func BenchmarkStateSave(b *testing.B) {
	s := mustOpenState(b, b.TempDir(), nil)
	credentials := map[string]map[partition]time.Time{someIdentity: {}}
	for n := range maxSavedCredentials {
		credentials[someIdentity][somePartition(n)] = time.Now()
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.save(credentials, map[string]bool{"redis": true}); err != nil {
			b.Fatal(err)
		}
	}
}
