// Package safefile makes, reads and locks the small files of a directory that is this daemon's own. A file is whole in its place
// or not there at all, also after a power cut; nothing that a link leads to is opened, and nothing that would keep the opener
// waiting. What is in the files, and what a fault means, is the caller's.
package safefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// TempSuffix ends the name of a file that is being written: its name to be, a random part and this.
const TempSuffix = ".tmp"

// ErrLocked is the error of Lock where another process has the lock.
var ErrLocked = errors.New("locked by another process")

// Create puts a whole file (0600) in its place by os.Rename or os.Link, and returns when it would outlast a power cut.
func Create(path string, content []byte, place func(from, to string) error) error {
	dir, name := filepath.Dir(path), filepath.Base(path)
	f, err := os.CreateTemp(dir, name+".*"+TempSuffix) // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = place(f.Name(), path)
	}
	if removeErr := os.Remove(f.Name()); err == nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = removeErr
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes what was created in a directory outlast a power cut, where the file system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// RemoveTemps removes what Create left of files of these names where the process ended while it wrote. Nobody else is writing one.
func RemoveTemps(dir string, names ...string) {
	for _, name := range names {
		temps, _ := fs.Glob(os.DirFS(dir), name+".*"+TempSuffix) // the pattern is well-formed
		for _, temp := range temps {
			_ = os.Remove(filepath.Join(dir, temp)) // one that stays is only in the way
		}
	}
}

// Lock takes the lock (flock) of a file, and makes the file where it is missing. The lock is gone with the process that has it,
// whatever ends that.
func Lock(path string) (*os.File, error) { return lock(path, syscall.LOCK_EX) }

// LockShared is Lock for what several may have at the same time: ErrLocked is for where one has it by Lock alone.
func LockShared(path string) (*os.File, error) { return lock(path, syscall.LOCK_SH) }

func lock(path string, how int) (*os.File, error) {
	f, err := open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close() // nothing was written
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrLocked
	}
	return nil, fmt.Errorf("%s: flock: %w", path, err)
}

// Unlock gives back what Lock or LockShared returned. It unlocks by hand: a child that is just being started still has the descriptor and would
// keep the lock.
func Unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// Read reads a regular file of at most so many bytes.
func Read(path string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := open(path, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return content, info, err
}

// Private says why a file that was read may have been written by others than this user; nil: it is this user's alone.
func Private(info fs.FileInfo) error {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Getuid() {
		return errors.New("it belongs to another user")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("others may read or write it (%v)", info.Mode().Perm())
	}
	return nil
}

// open opens a regular file, and nothing else.
func open(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: a symbolic link, a regular file is needed", path)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
