package cache

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fluentd-perf/internal/safefile"
)

// The files of a state directory, all 0600.
const (
	lockName   = "cache.lock"       // locked (flock) by the daemon that uses the directory; stays
	keyName    = "partition.key"    // 32 random bytes
	savedName  = "cache-state.json" // what the last run left: see savedState
	markerName = "cache.running"    // there while a daemon runs, and after one that did not end cleanly
)

const (
	keySize             = 32
	maxKeyFile          = 1 << 10 // what is read of partition.key, in bytes, to say what is wrong with it
	maxKeyTries         = 10      // to make it
	minShared           = 16      // bytes of a shared key
	maxSaved            = 8 << 20 // bytes of cache-state.json
	maxSavedCredentials = 10_000  // written to it, the latest ones
	savedFormat         = 2
)

// The labels of the HMACs in cache-state.json. No header can have such a name, so none of them is ever a partition.
const (
	labelState    = "fluentd-perf/state"
	labelIdentity = "fluentd-perf/state/identity"
)

// errStateInUse says that another daemon has the directory.
var errStateInUse = errors.New("in use by another daemon")

var errSaved = errors.New("not what a daemon with this partition key wrote")

// State is what a daemon keeps over a restart: its secret, the times of credentials, which tiers were told of all that was
// invalidated, and whether the last run ended cleanly. Its methods but save, Close and join are safe for concurrent use.
type State struct {
	dir      string   // "" where there is none
	lock     *os.File // nil once closed, and while it waits
	waits    bool     // another daemon has the directory: see OpenState
	secret   *secret
	unclean  bool
	warnings []string
	saved    savedState // of the last run
}

// savedState is the content of cache-state.json. Nothing in it is a secret without the partition key: identities, which
// hold configured headers, and credentials are there as HMACs.
type savedState struct {
	Format      int               `json:"format"`
	Credentials []savedCredential `json:"credentials"`
	Tiers       map[string]bool   `json:"tiers"` // those that were in use, and those of runs before that were not told everything: whether they were
}

type savedCredential struct {
	Identity  []byte `json:"identity"` // see State.nameOf
	Partition []byte `json:"partition"`
	At        int64  `json:"at"` // Unix time in ms
}

// signedState is the file: bytes that some program changed are not taken for the daemon's own.
type signedState struct {
	State json.RawMessage `json:"state"`
	MAC   []byte          `json:"mac"` // HMAC-SHA256 of State as written
}

// OpenState opens a state directory, and makes it (0700) and what belongs in it where it is missing. A shared key
// (`cache.partition_key`, at least 16 bytes) takes the place of the directory's own. The errors say what the operator has to change
// about the directory. Where what the last run saved cannot be read, that is no error, but a warning and an unclean end.
//
// Without a directory (dir is "") the State remembers nothing, and its own key is random. Where another daemon has the directory,
// one that drains, say, the key is there at once, and nothing else until Store.Join takes the directory: Waits is true, the State
// remembers nothing, and save does nothing.
func OpenState(dir string, shared []byte) (*State, error) {
	if n := len(shared); n > 0 && n < minShared {
		return nil, fmt.Errorf("cache.partition_key: %d bytes, at least %d are needed", n, minShared)
	}
	if dir == "" {
		if len(shared) == 0 {
			shared = newPartitionKey()
		}
		return &State{secret: newSecret(shared)}, nil
	}
	s := &State{dir: dir}
	if err := s.open(shared); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory: %w", err), s.Close())
	}
	return s, nil
}

// open takes the lock first and makes the marker last, so that a run which ends in between changes nothing for the next.
func (s *State) open(key []byte) error {
	if err := s.openDir(); err != nil {
		return err
	}
	err := s.take()
	if errors.Is(err, errStateInUse) {
		s.waits = true
		return s.useKey(key)
	}
	if err != nil {
		return err
	}
	if err := s.useKey(key); err != nil {
		return err
	}
	return s.resume()
}

func (s *State) take() (err error) {
	s.lock, err = safefile.Lock(s.path(lockName))
	if errors.Is(err, safefile.ErrLocked) {
		return fmt.Errorf("%s: %w", s.dir, errStateInUse)
	}
	if err == nil {
		safefile.RemoveTemps(s.dir, keyName, savedName, markerName)
	}
	return err
}

// useKey makes the secret of a shared key, or of the directory's own where that is empty.
func (s *State) useKey(key []byte) (err error) {
	if len(key) == 0 {
		if key, err = s.ownKey(); err != nil {
			return err
		}
	}
	s.secret = newSecret(key)
	return nil
}

// join takes the directory that another daemon had, and is not done while that still has it.
func (s *State) join() (done bool, err error) {
	s.warnings, s.unclean = nil, false
	if err := s.take(); err != nil {
		return !errors.Is(err, errStateInUse), err
	}
	if err := s.resume(); err != nil {
		return true, errors.Join(err, s.Close())
	}
	s.waits = false
	return true, nil
}

// resume reads what the last run left, and marks that one runs.
func (s *State) resume() error {
	if err := s.load(); err != nil {
		// Which tiers it told everything is not known: as after an unclean end.
		s.unclean = true
		s.warn("what the last run left is ignored: %v", err)
	}
	return s.mark()
}

func (s *State) openDir() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(s.dir)
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		s.warn("%s: its mode %04o lets others put files of theirs there; 0700 is better", s.dir, info.Mode().Perm())
	}
	return err
}

// KeyID is a short name of the partition key that tells nothing of it: it is a part of the names of stored keys and channels.
func (s *State) KeyID() string { return s.secret.id }

// Unclean reports that the last run on this directory did not end with a save, or that what it saved cannot be read: the
// embedded tier may hold what was invalidated.
func (s *State) Unclean() bool { return s.unclean }

// Waits reports whether another daemon has the directory still.
func (s *State) Waits() bool { return s.waits }

// Dir returns the directory, "" where there is none.
func (s *State) Dir() string { return s.dir }

// Warnings returns what OpenState or Store.Join found wrong and went on with, for the log.
func (s *State) Warnings() []string { return s.warnings }

func (s *State) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// Close lets another daemon have the directory. It does not save, and may be called again.
func (s *State) Close() error {
	if s.lock == nil {
		return nil
	}
	err := safefile.Unlock(s.lock)
	s.lock = nil
	return err
}

// credentials returns when credentials had their last 2xx answer from an upstream in the last run, where that is less
// than 10 minutes ago. After an unclean end there are none: a 401 of one may not have been saved.
func (s *State) credentials(identity string) map[partition]time.Time {
	found := make(map[partition]time.Time)
	if s.unclean {
		return found
	}
	name, now := s.nameOf(identity), time.Now()
	for _, c := range s.saved.Credentials {
		// A time to come is one from before the clock was set back.
		if at := time.UnixMilli(c.At); bytes.Equal(c.Identity, name) && now.Sub(at) < credentialLife && !at.After(now) {
			found[partition(c.Partition)] = at
		}
	}
	return found
}

// complete reports whether a tier that nobody else uses has been told everything: the last run used it, told it, and ended
// cleanly.
func (s *State) complete(tier string) bool { return !s.unclean && s.saved.Tiers[tier] }

// untold reports whether a run could not tell the tier everything, and none has done so since. After an unclean end it may
// have been told: telling twice does no harm.
func (s *State) untold(tier string) bool {
	told, ok := s.saved.Tiers[tier]
	return ok && !told
}

// save writes what the next run is to know: by upstream identity the times of credentials (of more than 10,000 the latest),
// and of every tier that was in use whether it has been told everything. Only if it returns nil the run has ended cleanly:
// call it when the tiers are closed.
func (s *State) save(credentials map[string]map[partition]time.Time, tiers map[string]bool) error {
	if s.dir == "" || s.waits {
		return nil
	}
	if s.lock == nil {
		return errors.New("cache: the state directory is closed")
	}
	state := savedState{Format: savedFormat, Credentials: s.latest(credentials), Tiers: make(map[string]bool)}
	for tier := range s.saved.Tiers {
		if s.untold(tier) {
			state.Tiers[tier] = false // as it was, where this run does not have it
		}
	}
	maps.Copy(state.Tiers, tiers)
	if err := s.write(&state); err != nil {
		return err
	}
	if err := os.Remove(s.path(markerName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// latest returns the credentials that are worth writing.
func (s *State) latest(credentials map[string]map[partition]time.Time) []savedCredential {
	var all []savedCredential
	now := time.Now()
	for identity, times := range credentials {
		name := s.nameOf(identity)
		for partition, at := range times {
			if now.Sub(at) < credentialLife {
				all = append(all, savedCredential{Identity: name, Partition: slices.Clone(partition[:]), At: at.UnixMilli()})
			}
		}
	}
	slices.SortFunc(all, func(a, b savedCredential) int { return cmp.Compare(b.At, a.At) })
	return all[:min(len(all), maxSavedCredentials)]
}

func (s *State) write(state *savedState) error {
	content, err := json.Marshal(state)
	if err != nil {
		return err
	}
	signed, err := json.Marshal(signedState{content, s.mac(labelState, content)})
	if err != nil {
		return err
	}
	return safefile.Create(s.path(savedName), signed, os.Rename)
}

// load reads what the last run saved. That there is nothing is no error.
func (s *State) load() error {
	content, _, err := safefile.Read(s.path(savedName), maxSaved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var signed signedState
	var state savedState
	if json.Unmarshal(content, &signed) != nil || !hmac.Equal(signed.MAC, s.mac(labelState, signed.State)) ||
		json.Unmarshal(signed.State, &state) != nil || !state.valid() {
		return fmt.Errorf("%s: %w", s.path(savedName), errSaved)
	}
	s.saved = state
	return nil
}

func (s *savedState) valid() bool {
	for _, c := range s.Credentials {
		if len(c.Partition) != len(partition{}) {
			return false
		}
	}
	return s.Format == savedFormat
}

// nameOf is how an upstream identity is written in the file.
func (s *State) nameOf(identity string) []byte { return s.mac(labelIdentity, []byte(identity)) }

func (s *State) mac(label string, content []byte) []byte {
	buf := appendPart(make([]byte, 64, 64+len(label)+len(content)+20), label)
	sum := s.secret.mac(appendPart(buf, content))
	return sum[:]
}

// mark makes the marker. One that is there, whatever it is, was left by a run that did not end cleanly.
func (s *State) mark() error {
	_, err := os.Lstat(s.path(markerName))
	if err == nil {
		s.unclean = true
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return safefile.Create(s.path(markerName), nil, os.Rename)
}

// ownKey returns the directory's key, and makes it at the first start. It is linked into its place, not renamed: where
// the lock does not hold (some file systems shared over a network), the first daemon's key stays and both have it.
func (s *State) ownKey() ([]byte, error) {
	path := s.path(keyName)
	key, info, err := safefile.Read(path, maxKeyFile)
	for tries := 0; errors.Is(err, fs.ErrNotExist) && tries < maxKeyTries; tries++ {
		// Where two start at once, the other may take the file for one that was left half written, and remove it before it is linked.
		if err := safefile.Create(path, newPartitionKey(), os.Link); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		key, info, err = safefile.Read(path, maxKeyFile)
	}
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Perm()&^0o600 != 0:
		return nil, fmt.Errorf("%s: its mode %04o lets others read or write the key; 0600 is needed", path, info.Mode().Perm())
	case len(key) != keySize:
		return nil, fmt.Errorf("%s: %d bytes, a key has %d; without the file a new key is made and the cache begins empty",
			path, len(key), keySize)
	}
	return key, nil
}

func newPartitionKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return key
}

func (s *State) path(name string) string { return filepath.Join(s.dir, name) }
