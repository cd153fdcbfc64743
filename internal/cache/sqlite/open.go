package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// readers is how many connections answer reads, beside the one that writes.
const readers = 2

// lockFile takes the lock that says the file is this process's.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errInUse
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// fatalAtStart reports whether an error is the operator's to mend: all that concerns the path. A disk that is full or
// fails is none.
func fatalAtStart(err error) bool {
	var path *fs.PathError
	if errors.As(err, &path) {
		return !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) && !errors.Is(err, syscall.EIO)
	}
	return errors.Is(err, errInUse) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errNotRegular)
}

var (
	errNotOurs    = errors.New("not a file of ours")
	errNotRegular = errors.New("not a regular file")
)

// open opens the file, or sets it aside and begins a new one where it is corrupt or not ours.
func (t *adapter) open() (*file, error) {
	f, err := t.openOnce()
	suffix := ".corrupt"
	switch {
	case errors.Is(err, errNotOurs):
		suffix = ".foreign"
	case isLocked(err):
		return nil, fmt.Errorf("%s: %w: %w", t.opt.Path, errInUse, err)
	case damageOf(err) != corrupt:
		return f, err
	}
	if err := t.setAside(suffix, err); err != nil {
		return nil, err
	}
	return t.openOnce()
}

// setAside renames the file and its -wal, over those that were set aside before.
func (t *adapter) setAside(suffix string, why error) error {
	t.opt.Log.Warn("the cache's file is set aside and a new one begun", "path", t.opt.Path, "as", t.opt.Path+suffix, "error", why)
	var errs []error
	for _, part := range []string{"", "-wal"} {
		_ = os.Remove(t.opt.Path + suffix + part) // if it stays, the rename says so, or replaces it
		errs = append(errs, unlessMissing(os.Rename(t.opt.Path+part, t.opt.Path+suffix+part)))
	}
	return errors.Join(append(errs, unlessMissing(os.Remove(t.opt.Path+"-shm")))...)
}

func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// openOnce opens the file as it is: by the connection that writes, then by those that read.
func (t *adapter) openOnce() (*file, error) {
	if err := ownFile(t.opt.Path); err != nil {
		return nil, err
	}
	var conns []*conn
	for _, pragmas := range t.pragmas() {
		c, err := dial(t.opt.Path, pragmas...)
		if err != nil {
			return nil, errors.Join(err, closeAll(conns))
		}
		conns = append(conns, c)
	}
	contents, err := t.load(conns[0])
	if err != nil {
		return nil, errors.Join(err, closeAll(conns))
	}
	return t.newFile(conns, contents), nil
}

func closeAll(conns []*conn) error {
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}

// ownFile sees to it that the file is there and nobody else's to read. The -wal and the -shm get its mode from SQLite.
func ownFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w", path, errNotRegular)
	}
	return errors.Join(f.Chmod(0o600), unlessMissing(os.Chmod(path+"-wal", 0o600)), unlessMissing(os.Chmod(path+"-shm", 0o600)))
}
