package npx

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	oldVersions = 2                   // that stay beside the latest install of a package
	unusedFor   = 30 * 24 * time.Hour // after that a package goes
	cleanPause  = 24 * time.Hour      // between two looks at all packages
)

// Totals are what is installed.
type Totals struct {
	Installs int   `json:"installs"`
	InUse    int   `json:"inUse"` // of them, by processes of this daemon
	Bytes    int64 `json:"bytes"`
}

// Totals returns what is installed, as the records have it.
func (r *Resolver) Totals() (t Totals) {
	for _, key := range r.store.keys() {
		for _, i := range r.store.read(key).Installs {
			t.Installs++
			t.Bytes += i.Bytes
			if r.store.count(key, i.ID) > 0 {
				t.InUse++
			}
		}
	}
	return t
}

// Purge removes all installs from which no daemon runs a process, and returns what went and what is left. It waits for installs that are
// under way until ctx ends.
func (r *Resolver) Purge(ctx context.Context) (removed, left Totals) {
	before := r.Totals()
	for _, key := range r.store.keys() {
		if unlock, err := r.store.lock(ctx, key); err == nil {
			r.store.shorten(key, 0)
			unlock()
		}
	}
	left = r.Totals()
	return Totals{Installs: before.Installs - left.Installs, Bytes: before.Bytes - left.Bytes}, left
}

// clean removes what nobody has used for 30 days, and what is left of ends in between.
func (s *store) clean() {
	for _, key := range s.keys() {
		unlock, err := s.tryLock(key)
		if err != nil { // somebody installs it at the moment
			continue
		}
		keep := 1 + oldVersions
		if s.unused(key) >= unusedFor {
			keep = 0
		}
		s.shorten(key, keep)
		unlock()
	}
	s.cleanFiles()
}

// cleanFiles removes what npm said of its settings 30 days ago; whoever needs it asks again.
func (s *store) cleanFiles() {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() && strings.HasPrefix(entry.Name(), settingsPrefix) && time.Since(info.ModTime()) >= unusedFor {
			_ = os.Remove(filepath.Join(s.dir, entry.Name())) // the next time
		}
	}
}

// unused is for how long nobody has used a package.
func (s *store) unused(key string) time.Duration {
	info, err := os.Stat(filepath.Join(s.dir, key, recordName))
	if err != nil {
		return 0
	}
	return time.Since(info.ModTime())
}

// shorten keeps so many installs of a package, the latest, and those that are in use. The caller has the lock.
func (s *store) shorten(key string, keep int) {
	r := s.read(key)
	if s.drop(key, &r, min(len(r.Installs), keep)) != nil {
		return
	}
	s.removeStrays(key, r)
	if len(r.Installs) > 0 {
		return
	}
	folder := filepath.Join(s.dir, key)
	_ = os.Remove(filepath.Join(folder, recordName)) // it may not be there
	if os.Remove(folder) == nil {                    // it is empty
		_ = os.Remove(folder + lockSuffix)
	}
}

// drop takes all installs after the first ones out of a record, but those that are in use, writes it and removes them. The caller has the
// lock.
func (s *store) drop(key string, r *record, keep int) error {
	kept := r.Installs[:keep:keep]
	var gone []string
	for _, i := range r.Installs[keep:] {
		if s.inUse(key, i.ID) {
			kept = append(kept, i)
		} else {
			gone = append(gone, i.ID)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	r.Installs = kept
	used := s.unused(key)
	if err := s.write(key, *r); err != nil {
		return err
	}
	s.touch(key, time.Now().Add(-used)) // writing is no use
	for _, id := range gone {
		s.remove(key, id)
	}
	return nil
}
