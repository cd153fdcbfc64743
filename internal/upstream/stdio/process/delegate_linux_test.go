package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwnCgroup divides what looks like a unit's cgroup, or says why it does not.
func TestOwnCgroup(t *testing.T) {
	for name, c := range map[string]struct {
		membership, controllers, members string
		want                             string // of the error
	}{
		"delegated":     {"0::/unit\n", "cpu memory pids\n", "42\n", ""},
		"with v1":       {"3:pids:/x\n0::/unit\n", "memory pids\n", "42\n", ""},
		"the root":      {"0::/\n", "memory pids\n", "42\n", "no cgroup (v2) of its own"},
		"v1 only":       {"3:pids:/x\n", "memory pids\n", "42\n", "no cgroup (v2) of its own"},
		"no controller": {"0::/unit\n", "memory\n", "42\n", "the pids controller is not delegated"},
		"a terminal's":  {"0::/unit\n", "memory pids\n", "7\n42\n", "other processes are in it"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			unit := filepath.Join(root, "unit")
			if err := os.Mkdir(unit, 0o700); err != nil {
				t.Fatal(err)
			}
			write := func(path, text string) {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(filepath.Join(root, "membership"), c.membership)
			write(filepath.Join(unit, "cgroup.controllers"), c.controllers)
			write(filepath.Join(unit, "cgroup.procs"), c.members)
			dir, err := ownCgroup(filepath.Join(root, "membership"), root, 42)
			moved, _ := os.ReadFile(filepath.Join(unit, "daemon/cgroup.procs"))
			control, _ := os.ReadFile(filepath.Join(unit, "cgroup.subtree_control"))
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || len(moved)+len(control) > 0 {
					t.Errorf("got %v, and %q, %q", err, moved, control)
				}
				return
			}
			if err != nil || dir != unit || string(moved) != "42" || string(control) != "+memory +pids" {
				t.Errorf("got %q, %v, and %q, %q", dir, err, moved, control)
			}
		})
	}
}

// TestOwnCgroupRefused holds that the daemon moves back where the controllers cannot be had after all.
func TestOwnCgroupRefused(t *testing.T) {
	root := t.TempDir()
	unit := filepath.Join(root, "unit")
	if err := os.MkdirAll(filepath.Join(unit, "cgroup.subtree_control"), 0o700); err != nil { // which cannot be written to
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		root + "/membership": "0::/unit\n", unit + "/cgroup.controllers": "memory pids", unit + "/cgroup.procs": "42",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if dir, err := ownCgroup(root+"/membership", root, 42); err == nil {
		t.Errorf("got %q", dir)
	}
	if back, err := os.ReadFile(unit + "/cgroup.procs"); string(back) != "42" {
		t.Errorf("it is in %q, %v", back, err)
	}
}
