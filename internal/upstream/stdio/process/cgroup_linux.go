package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroup is the one of a start that has limits. All methods work on nil.
type cgroup struct {
	path string
	dir  *os.File // nil where the directory is in no cgroup file system: a test's
}

// newCgroup makes the cgroup of a start, nil where it has no limits or the daemon no directory for it.
func newCgroup(parent string, id uint64, memory int64, tasks int) (*cgroup, error) {
	if parent == "" || memory <= 0 && tasks <= 0 {
		return nil, nil
	}
	c := &cgroup{path: filepath.Join(parent, fmt.Sprintf("server-%d", id))}
	if err := os.Mkdir(c.path, 0o755); err != nil && !errors.Is(err, os.ErrExist) { // an earlier daemon's of the same unit
		return nil, err
	}
	if err := c.limit(memory, tasks); err != nil {
		c.remove()
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.path, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		dir, err := os.Open(c.path)
		if err != nil {
			c.remove()
			return nil, err
		}
		c.dir = dir
	}
	return c, nil
}

func (c *cgroup) limit(memory int64, tasks int) error {
	for file, value := range map[string]int64{"memory.max": memory, "pids.max": int64(tasks)} {
		if value <= 0 {
			continue
		}
		if err := c.write(file, strconv.FormatInt(value, 10)); err != nil {
			return err
		}
	}
	return nil
}

func (c *cgroup) write(file, value string) error {
	return os.WriteFile(filepath.Join(c.path, file), []byte(value), 0o644)
}

// descriptor is for CLONE_INTO_CGROUP, -1 where there is none.
func (c *cgroup) descriptor() int {
	if c == nil || c.dir == nil {
		return -1
	}
	return int(c.dir.Fd())
}

// add moves a process into it that could not be started there.
func (c *cgroup) add(pid int) {
	if c != nil && c.dir == nil {
		_ = c.write("cgroup.procs", strconv.Itoa(pid))
	}
}

// outOfMemory reports whether the kernel killed something in it for want of memory.
func (c *cgroup) outOfMemory() bool { return c != nil && killedForMemory(c.path) }

// killedForMemory reports that of a cgroup's directory; false where there is none any more.
func killedForMemory(dir string) bool {
	events, err := os.ReadFile(filepath.Join(dir, memoryEvents))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(events) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "oom_kill "); ok {
			return count != "0"
		}
	}
	return false
}

const memoryEvents = "memory.events"

// remove ends what is in it and removes it.
func (c *cgroup) remove() {
	if c == nil {
		return
	}
	_ = c.write("cgroup.kill", "1")
	if c.dir != nil {
		_ = c.dir.Close()
	}
	_ = unix.Rmdir(c.path) // what is busy is removed with the unit's cgroup
}
