package api

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"fluentd-perf/internal/safefile"
)

// takeLock locks a file for as long as the daemon lives; the system lets go when the process dies. Without it two daemons
// that start at once would both find a dead one's socket, and each would take its place:
//
//	A: nobody answers    B: nobody answers    A: its own socket has the name    B: its own has; A is never found again
func takeLock(path string) (*os.File, error) {
	for {
		f, err := safefile.Lock(path)
		switch {
		case errors.Is(err, safefile.ErrLocked):
			return nil, ErrInUse
		case err != nil:
			return nil, fmt.Errorf("the socket's lock: %w", err)
		case stillNamed(f, path):
			return f, nil
		}
		_ = safefile.Unlock(f) // whoever had it has removed it in the meantime: this lock is of a file that nobody else will open
	}
}

// Locked reports whether a daemon has the socket of that path. Where none has, it may look for a moment as if this process had.
func Locked(path string) bool {
	f, err := takeLock(path + ".lock")
	if err == nil {
		err = (&socket{lock: f}).unlock()
	}
	return errors.Is(err, ErrInUse)
}

// stillNamed reports whether the path leads to the open file.
func stillNamed(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, named)
}

// unlock removes the lock's file while it is still locked, and lets go.
func (s *socket) unlock() error {
	err := os.Remove(s.lock.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, safefile.Unlock(s.lock))
}
