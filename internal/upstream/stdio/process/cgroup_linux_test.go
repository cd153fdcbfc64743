package process

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// TestCgroup holds what is written and read where a start has limits, in a directory that only looks like a cgroup's.
func TestCgroup(t *testing.T) {
	parent := t.TempDir()
	g := newGuard(Options{Cgroup: parent}, shortLadder)
	t.Cleanup(func() { g.Close(context.Background()) })
	one := spec("deaf")
	one.Memory, one.Tasks = 1<<30, 64
	p, err := g.Start(context.Background(), one)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdout().Close()
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(p.cgroup.path, name))
		return string(text)
	}
	for file, want := range map[string]string{
		"memory.max": "1073741824", "pids.max": "64", "cgroup.procs": strconv.Itoa(p.PID()),
	} {
		if got := read(file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	events := "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n"
	if err := os.WriteFile(filepath.Join(p.cgroup.path, "memory.events"), []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "Gone", p.Gone())
	if got := p.Exit().String(); got != "killed: more memory than 1073741824 bytes" {
		t.Errorf("exit %q", got)
	}
	if got := read("cgroup.kill"); got != "1" {
		t.Errorf("cgroup.kill is %q", got)
	}
}

// TestOutOfMemory holds which ends are said to be for want of memory, where the kernel has killed one of the start's processes for that.
func TestOutOfMemory(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   string
	}{
		"killed":         {"read -r line; kill -KILL $$", "killed: more memory than 1073741824 bytes"},
		"fails":          {"read -r line; exit 3", "killed: more memory than 1073741824 bytes"},
		"succeeds":       {"read -r line", "exit status 0"},
		"was terminated": {"read -r line; kill -TERM $$", "killed by signal: terminated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuard(Options{Cgroup: t.TempDir()}, usualLadder)
			t.Cleanup(func() { g.Close(context.Background()) })
			p, err := g.Start(context.Background(), Spec{Name: "s", Command: []string{"/bin/sh", "-c", c.script + "; exit 0"}, Dir: "/", Memory: 1 << 30})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Stdout().Close()
			if err := os.WriteFile(filepath.Join(p.cgroup.path, "memory.events"), []byte("oom_kill 2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Stdin().WriteString("go on\n"); err != nil {
				t.Fatal(err)
			}
			await(t, "Done", p.Done())
			if got := p.Exit().String(); got != c.want {
				t.Errorf("exit %q, want %q", got, c.want)
			}
		})
	}
}

// TestNoCgroup holds that a server without limits has none, and one whose limits cannot be set starts all the same.
func TestNoCgroup(t *testing.T) {
	parent := t.TempDir()
	g := newGuard(Options{Cgroup: parent}, shortLadder)
	t.Cleanup(func() { g.Close(context.Background()) })
	for _, memory := range []int64{0, 1 << 30} {
		one := spec("echo")
		one.Memory = memory
		p, err := g.Start(context.Background(), one)
		if err != nil {
			t.Fatal(err)
		}
		p.Stdout().Close()
		if p.cgroup != nil {
			t.Errorf("memory %d: it has a cgroup", memory)
		}
		if err := os.RemoveAll(parent); err != nil { // for the next
			t.Fatal(err)
		}
	}
}
