package demo

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// DirectoryPrefix begins the names of demos' directories. Each is locked for as long as its demo runs: one that is not locked
// was left by a demo that was killed.
const DirectoryPrefix = "fluentd-perf-demo-"

// Directory makes a directory of a demo's own, which remove removes, and removes first what demos that were killed have left. It is
// among the system's temporary files, or in /tmp where fits says that a path there is too long.
func Directory(fits func(dir string) bool, log *slog.Logger) (dir string, remove func() error, err error) {
	parent := os.TempDir()
	if !fits(filepath.Join(parent, DirectoryPrefix+"4294967295")) { // MkdirTemp adds 32 bits
		parent = "/tmp"
	}
	clearKilled(parent, log)
	for range 10 { // another demo that clears may take a new one for an abandoned one, until it is locked
		if dir, err = os.MkdirTemp(parent, DirectoryPrefix); err != nil {
			return "", nil, err
		}
		var lock *os.File
		if lock, err = lockDirectory(dir); err == nil {
			return dir, func() error {
				defer lock.Close()
				return os.RemoveAll(dir)
			}, nil
		}
	}
	return "", nil, err
}

// clearKilled removes the directories of this user's demos that have ended without doing so.
func clearKilled(parent string, log *slog.Logger) {
	entries, _ := os.ReadDir(parent)
	for _, entry := range entries {
		dir := filepath.Join(parent, entry.Name())
		if !strings.HasPrefix(entry.Name(), DirectoryPrefix) || !ownDirectory(dir) {
			continue
		}
		lock, err := lockDirectory(dir)
		if err != nil {
			continue // its demo runs
		}
		if err = os.RemoveAll(dir); err != nil {
			log.Warn("could not remove what a demo that was killed had left", "directory", dir, "error", err)
		}
		lock.Close()
	}
}

// ownDirectory reports whether there is a directory, not a link to one, that belongs to this user: nobody else can put
// another in its place then.
func ownDirectory(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// lockDirectory locks a directory that is there, and not locked. The lock ends with the process, or when it is closed.
func lockDirectory(dir string) (lock *os.File, err error) {
	if lock, err = os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0); err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		err = stillAt(dir, lock)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// stillAt returns an error where dir is not the directory that was opened: it was removed before it was locked.
func stillAt(dir string, opened *os.File) error {
	was, err := opened.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(dir)
	if err == nil && !os.SameFile(was, now) {
		err = fs.ErrNotExist
	}
	return err
}
