package api

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// takeLock locks a file for as long as the daemon lives; the system lets go when the process dies. Without it two daemons
// that start at once would both find a dead one's socket, and each would take its place:
//
//	A: nobody answers    B: nobody answers    A: its own socket has the name    B: its own has; A is never found again
func takeLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("the admin socket's lock: %w", err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, ErrInUse
			}
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if stillNamed(f, path) {
			return f, nil
		}
		f.Close() // whoever had it has removed it in the meantime: this lock is of a file that nobody else will open
	}
}

// Locked reports whether a daemon has the socket of that path.
func Locked(path string) bool {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
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
	return errors.Join(err, s.lock.Close())
}
