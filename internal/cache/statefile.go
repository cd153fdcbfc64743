package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// create puts a whole file in its place by rename or link, and returns when it would outlast a power cut.
func (s *State) create(name string, content []byte, place func(from, to string) error) error {
	f, err := os.CreateTemp(s.dir, name+".*"+tempSuffix) // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = place(f.Name(), s.path(name))
	}
	if removeErr := os.Remove(f.Name()); err == nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = removeErr
	}
	if err != nil {
		return err
	}
	return syncDir(s.dir)
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

// removeTemps removes what runs left that ended while they wrote a file. The lock is held.
func (s *State) removeTemps() {
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		for _, name := range [...]string{keyName, savedName, markerName} {
			if strings.HasPrefix(e.Name(), name+".") && strings.HasSuffix(e.Name(), tempSuffix) {
				_ = os.Remove(s.path(e.Name()))
			}
		}
	}
}

// lockPath takes the lock of a directory. It is gone with the process that has it, whatever ends that.
func lockPath(path string) (*os.File, error) {
	f, err := openRegular(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("%s: %w", filepath.Dir(path), ErrStateInUse)
	}
	return nil, fmt.Errorf("%s: flock: %w", path, err)
}

// openRegular opens a regular file, and nothing that a link leads to or that would keep the opener waiting.
func openRegular(path string, flag int) (*os.File, error) {
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

// readRegular reads a file of at most so many bytes.
func readRegular(path string, most int64) ([]byte, fs.FileInfo, error) {
	f, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s: more than %d bytes", path, most)
	}
	return content, info, err
}
