package main

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/daemon"
)

// demoPrefix begins the names of demos' directories. Each is locked for as long as its demo runs: one that is not locked
// was left by a demo that was killed.
const demoPrefix = "fluentd-perf-demo-"

// demoDirectories leaves nothing behind on a newcomer's machine, and out of the way of a daemon that runs there: what
// would outlive a restart, and the admin socket, go with the demo, unless somebody says where to. What a demo that was
// killed has left goes first.
func demoDirectories(flags directoryFlags, log *slog.Logger) (daemon.Paths, func() error, error) {
	remove := func() error { return nil }
	if flags.State == "" || flags.Runtime == "" {
		parent := demoParent()
		clearDemos(parent, log)
		temp, lock, err := demoDirectory(parent)
		if err != nil {
			return daemon.Paths{}, nil, err
		}
		flags.State = cmp.Or(flags.State, temp)
		flags.Runtime = cmp.Or(flags.Runtime, filepath.Join(temp, "run"))
		remove = func() error {
			defer lock.Close()
			return os.RemoveAll(temp)
		}
	}
	dirs, err := flags.Resolve(log)
	if err != nil {
		return dirs, nil, errors.Join(err, remove())
	}
	return dirs, remove, nil
}

// demoParent returns where demos have their directories: the system's directory for temporary files, unless its path is
// too long for a socket below it.
func demoParent() string {
	const longest = demoPrefix + "4294967295" // MkdirTemp adds 32 bits
	if api.CheckPath(filepath.Join(os.TempDir(), longest, "run", daemon.SocketName)) == nil {
		return os.TempDir()
	}
	return "/tmp"
}

// demoDirectory makes a directory of the demo's own, and locks it until lock is closed.
func demoDirectory(parent string) (dir string, lock *os.File, err error) {
	for range 10 { // another demo that clears may take a new one for an abandoned one, until it is locked
		if dir, err = os.MkdirTemp(parent, demoPrefix); err != nil {
			return "", nil, err
		}
		if lock, err = lockDirectory(dir); err == nil {
			return dir, lock, nil
		}
	}
	return "", nil, err
}

// clearDemos removes the directories of this user's demos that have ended without doing so.
func clearDemos(parent string, log *slog.Logger) {
	entries, _ := os.ReadDir(parent)
	for _, entry := range entries {
		dir := filepath.Join(parent, entry.Name())
		if !strings.HasPrefix(entry.Name(), demoPrefix) || !ownDirectory(dir) {
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
