package npx

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"fluentd-perf/internal/safefile"
)

// The cache folder has for each package, as it is asked for and on which platform:
//
//	KEY.lock       locked (flock) by the daemon that installs or removes
//	KEY/           a folder, with
//	  record.json  which installs there are: what is not in it is not there
//	  ID/          an install: npm's folder
//	  ID.use       locked (flock, shared) by every daemon with a process that runs from ID/
//
// An ID is used once. An install is made in its own place and becomes one by the renaming of the record, not of its folder: install
// scripts write absolute paths into what they make.
const (
	recordName   = "record.json"
	recordFormat = 1
	maxRecord    = 1 << 20
	lockSuffix   = ".lock"
	useSuffix    = ".use"
	lockPause    = 100 * time.Millisecond // between two tries for a lock that another daemon has
)

// record says what is installed of a package. The time of its file is when it was last used.
type record struct {
	Format   int       `json:"format"`
	Package  string    `json:"package"`  // as it was asked for
	Installs []install `json:"installs"` // the latest first, which is the one in use
	Checked  time.Time `json:"checked"`  // when the version was last looked up
	Repaired time.Time `json:"repaired"` // when a damaged install was last made again
}

// install is one version of a package in a folder.
type install struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`    // of the package
	Version string            `json:"version"` // exact
	Bin     map[string]string `json:"bin"`     // files by the names of programs
	Bytes   int64             `json:"bytes"`
}

// has reports whether an install is one of the record's.
func (r *record) has(id string) bool {
	for _, i := range r.Installs {
		if i.ID == id {
			return true
		}
	}
	return false
}

// store is the cache folder.
type store struct {
	dir string

	mu   sync.Mutex // guards the following
	uses map[string]*use
}

// use is the use of one install by this daemon's processes.
type use struct {
	lock  *os.File
	count int
}

// keyOf names the folder of a package.
func keyOf(parts ...string) string {
	digest := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(digest, "%q\n", part)
	}
	return hex.EncodeToString(digest.Sum(nil)[:16])
}

func newID() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // it never fails
	return hex.EncodeToString(random[:])
}

// makeFolder makes a directory that is this user's alone. What is run from it must be nobody else's to write.
func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(sys.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is no directory of this user's that only this user can write to", path)
	}
	return nil
}

func (s *store) folder(key, id string) string { return filepath.Join(s.dir, key, id) }

// read returns a package's record; an empty one where there is none, or none that is understood.
func (s *store) read(key string) record {
	text, _, err := safefile.Read(filepath.Join(s.dir, key, recordName), maxRecord)
	if err != nil {
		return record{}
	}
	var r record
	if json.Unmarshal(text, &r) != nil || r.Format != recordFormat {
		return record{}
	}
	for _, i := range r.Installs {
		if !isFileName(i.ID) || !packageName.MatchString(i.Name) {
			return record{}
		}
	}
	return r
}

// write replaces a record. The caller has the lock.
func (s *store) write(key string, r record) error {
	r.Format = recordFormat
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return safefile.Create(filepath.Join(s.dir, key, recordName), text, os.Rename)
}

// touch notes when a package was used.
func (s *store) touch(key string, at time.Time) {
	_ = os.Chtimes(filepath.Join(s.dir, key, recordName), at, at) // at worst it counts as used when it was written
}

// begin begins a use of the latest install of a package, which ends with the function that is returned. ok is false where there is
// none.
func (s *store) begin(key string) (r record, end func(), ok bool) {
	for range 3 { // a daemon may have removed what the record had when it was read
		r = s.read(key)
		if len(r.Installs) == 0 {
			return record{}, nil, false
		}
		id := r.Installs[0].ID
		end, err := s.hold(key, id)
		if err != nil {
			continue
		}
		if again := s.read(key); again.has(id) {
			s.touch(key, time.Now())
			return r, end, true
		}
		end()
	}
	return record{}, nil, false
}

// hold counts a use of an install.
func (s *store) hold(key, id string) (end func(), err error) {
	path := s.folder(key, id) + useSuffix
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.uses[path]
	if u == nil {
		lock, err := safefile.LockShared(path)
		if err != nil {
			return nil, err
		}
		u = &use{lock: lock}
		s.uses[path] = u
	}
	u.count++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if u.count--; u.count == 0 {
			delete(s.uses, path)
			_ = safefile.Unlock(u.lock) // the lock ends with the descriptor, whatever it says
		}
	}), nil
}

// count returns how many processes of this daemon run from an install.
func (s *store) count(key, id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.uses[s.folder(key, id)+useSuffix]; u != nil {
		return u.count
	}
	return 0
}

// lock takes the lock of a package when no other daemon has it any more. It tries once at least.
func (s *store) lock(ctx context.Context, key string) (unlock func(), err error) {
	return whenUnlocked(ctx, func() (func(), error) { return s.tryLock(key) })
}

// whenUnlocked tries until what is tried for is not locked by another daemon any more, or ctx ends.
func whenUnlocked(ctx context.Context, try func() (unlock func(), err error)) (unlock func(), err error) {
	timer := time.NewTimer(lockPause)
	defer timer.Stop()
	for {
		unlock, err = try()
		if !errors.Is(err, safefile.ErrLocked) {
			return unlock, err
		}
		select {
		case <-timer.C:
			timer.Reset(lockPause)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryLock takes the lock of a package. A file that was removed meanwhile is no lock: somebody else has another one.
func (s *store) tryLock(key string) (unlock func(), err error) {
	path := filepath.Join(s.dir, key+lockSuffix)
	f, err := safefile.Lock(path)
	if err != nil {
		return nil, err
	}
	own, err := f.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = os.Lstat(path); err == nil && os.SameFile(own, there) {
			return func() { _ = safefile.Unlock(f) }, nil // the lock ends with the descriptor, whatever it says
		}
	}
	_ = safefile.Unlock(f)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return nil, safefile.ErrLocked
}

// keys returns the packages that have a folder.
func (s *store) keys() (keys []string) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() {
			keys = append(keys, entry.Name())
		}
	}
	return keys
}

// inUse reports whether any daemon runs a process from an install. One that begins to is prevented by the record, which it reads again.
func (s *store) inUse(key, id string) bool {
	lock, err := safefile.Lock(s.folder(key, id) + useSuffix)
	if err != nil {
		return true
	}
	_ = safefile.Unlock(lock) // the lock ends with the descriptor, whatever it says
	return false
}

// remove removes an install that nobody runs from, of which no record speaks any more. The caller has the lock.
func (s *store) remove(key, id string) bool {
	path := s.folder(key, id)
	lock, err := safefile.Lock(path + useSuffix)
	if err != nil {
		return false
	}
	defer func() { _ = safefile.Unlock(lock) }() // the file is gone
	if os.RemoveAll(path) != nil {
		return false
	}
	return os.Remove(path+useSuffix) == nil
}

// removeStrays removes what is in a package's folder and not in its record: halves of installs, and those that were in use when they
// were to go. The caller has the lock.
func (s *store) removeStrays(key string, r record) {
	entries, err := os.ReadDir(filepath.Join(s.dir, key))
	if err != nil {
		return
	}
	for _, entry := range entries {
		id := strings.TrimSuffix(entry.Name(), useSuffix)
		if id != recordName && !r.has(id) && (entry.IsDir() || id != entry.Name()) {
			s.remove(key, id)
		}
	}
	safefile.RemoveTemps(filepath.Join(s.dir, key), recordName)
}
