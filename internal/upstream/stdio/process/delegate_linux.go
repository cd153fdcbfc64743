package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// limited are the controllers that limits need.
var limited = []string{"memory", "pids"}

// OwnCgroup makes the daemon's own cgroup (v2) one in which each server with limits gets its own: for Options.Cgroup. It works
// where a service manager has delegated that with its memory and pids controllers; the error says why not, and nothing has
// changed then. The daemon moves into a cgroup below it, since one with controllers for others may hold no process itself.
func OwnCgroup() (string, error) {
	return ownCgroup("/proc/self/cgroup", "/sys/fs/cgroup", os.Getpid())
}

func ownCgroup(membership, root string, pid int) (string, error) {
	path, err := unifiedPath(membership)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, path)
	if err := mayDelegate(dir, pid); err != nil {
		return "", err
	}
	own := filepath.Join(dir, "daemon")
	if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	move := func(to string) error {
		return os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
	}
	if err := move(own); err != nil {
		return "", errors.Join(err, os.Remove(own))
	}
	controllers := "+" + strings.Join(limited, " +")
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(controllers), 0o644); err != nil {
		return "", errors.Join(err, move(dir), os.Remove(own))
	}
	return dir, nil
}

// unifiedPath returns the path of the process's cgroup in the v2 hierarchy.
func unifiedPath(membership string) (string, error) {
	text, err := os.ReadFile(membership)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && path != "/" {
			return path, nil
		}
	}
	return "", errors.New("the daemon has no cgroup (v2) of its own")
}

// mayDelegate says why a cgroup cannot be divided: a controller is missing, or others are in it, as the shell is in a terminal's.
func mayDelegate(dir string, pid int) error {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, one := range limited {
		if !slices.Contains(strings.Fields(string(controllers)), one) {
			return fmt.Errorf("%s: the %s controller is not delegated", dir, one)
		}
	}
	members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	if !slices.Equal(strings.Fields(string(members)), []string{strconv.Itoa(pid)}) {
		return fmt.Errorf("%s: other processes are in it", dir)
	}
	return nil
}
