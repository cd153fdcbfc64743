package api_test

import (
	"bufio"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/internal/api"
)

// TestSocketFile holds what is made and with which rights, and that nothing is left.
func TestSocketFile(t *testing.T) {
	dir := filepath.Join(directory(t), "a", "b")
	path := filepath.Join(dir, "admin.sock")
	s := open(t, api.Options{Path: path})
	if s.Path() != path {
		t.Errorf("path %s, want %s", s.Path(), path)
	}
	for name, want := range map[string]fs.FileMode{
		dir: 0o700 | fs.ModeDir, filepath.Dir(dir): 0o700 | fs.ModeDir, path: 0o600 | fs.ModeSocket, path + ".lock": 0o600,
	} {
		if got := mode(t, name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := names(t, dir); got != "admin.sock admin.sock.lock" {
		t.Errorf("made %s", got)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("left %s", got)
	}
	if err := s.Serve(); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
}

// TestSocketInUse holds that a running daemon keeps its socket, whoever opens another one and how often.
func TestSocketInUse(t *testing.T) {
	o := api.Options{Path: filepath.Join(directory(t), "admin.sock"), Handlers: map[string]api.Handler{"echo": echo}}
	serving(t, o)
	refuse(t, o, api.ErrInUse, o.Path)
	if err := api.Call(t.Context(), o.Path, "echo", nil, nil); err != nil {
		t.Errorf("the first one after that: %v", err)
	}
	// A program that knows no lock.
	other := filepath.Join(directory(t), "admin.sock")
	l, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refuse(t, api.Options{Path: other}, api.ErrInUse, other)
	if got := names(t, filepath.Dir(other)); got != "admin.sock" {
		t.Errorf("left %s", got)
	}
}

// TestSocketRace opens one path many times at once: exactly one has it, and it answers.
func TestSocketRace(t *testing.T) {
	path := filepath.Join(directory(t), "admin.sock")
	stale(t, path)
	var group sync.WaitGroup
	servers := make(chan *api.Server, 50)
	for range cap(servers) {
		group.Go(func() {
			s, err := api.Open(api.Options{Path: path})
			if err == nil {
				servers <- s
			} else if !errors.Is(err, api.ErrInUse) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(servers) != 1 {
		t.Errorf("%d daemons have one socket", len(servers))
	}
	for close(servers); len(servers) > 0; {
		if err := (<-servers).Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSocketTurns lets many open, close and open again: no two have it at a time, and no lock is left behind.
func TestSocketTurns(t *testing.T) {
	path := filepath.Join(directory(t), "admin.sock")
	var group sync.WaitGroup
	var holder sync.Mutex
	for range 8 {
		group.Go(func() {
			for opened := 0; opened < 5; {
				s, err := api.Open(api.Options{Path: path})
				if errors.Is(err, api.ErrInUse) {
					runtime.Gosched()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !holder.TryLock() {
					t.Error("two have it")
					return
				}
				opened++
				holder.Unlock() // before the other may have it
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got := names(t, filepath.Dir(path)); got != "" {
		t.Errorf("left %s", got)
	}
}

// stale leaves a socket file at which nobody answers.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSocketOfADeadDaemon holds that a daemon that was killed leaves nothing in the way of the next.
func TestSocketOfADeadDaemon(t *testing.T) {
	path := filepath.Join(directory(t), "admin.sock")
	daemon := exec.Command(os.Args[0])
	daemon.Env = append(os.Environ(), stay+"="+path)
	daemon.Stderr = os.Stderr
	in, err := daemon.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil && line == "open\n" {
		refuse(t, api.Options{Path: path}, api.ErrInUse)
	} else {
		t.Errorf("the daemon says %q, %v", line, err)
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := daemon.Wait(); err == nil {
		t.Error("it ended by itself")
	}
	if mode(t, path).Type() != fs.ModeSocket {
		t.Error("its socket is gone")
	}
	serving(t, api.Options{Path: path, Handlers: map[string]api.Handler{"echo": echo}})
	if err := api.Call(t.Context(), path, "echo", nil, nil); err != nil {
		t.Error(err)
	}
}

// TestSocketOtherFile holds that what is not a socket is never touched.
func TestSocketOtherFile(t *testing.T) {
	dir := directory(t)
	target := filepath.Join(dir, "precious")
	if err := os.WriteFile(target, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	link, folder := filepath.Join(dir, "link"), filepath.Join(dir, "folder")
	if err := errors.Join(os.Symlink(target, link), os.Mkdir(folder, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{target, link, folder} {
		refuse(t, api.Options{Path: path}, api.ErrNotSocket, path)
	}
	if b, err := os.ReadFile(link); err != nil || string(b) != "keep" {
		t.Errorf("%s, %v", b, err)
	}
	if got := names(t, dir); got != "folder link precious" {
		t.Errorf("left %s", got)
	}
	refuse(t, api.Options{Path: filepath.Join(target, "admin.sock")}, nil, "not a directory")
	// A lock that leads elsewhere is not followed.
	path := filepath.Join(dir, "admin.sock")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path+".lock"); err != nil {
		t.Fatal(err)
	}
	refuse(t, api.Options{Path: path}, nil, "lock")
	if got := names(t, dir); strings.Contains(got, "elsewhere") {
		t.Errorf("left %s", got)
	}
}

// TestSocketReplaced holds that Close removes its own socket only.
func TestSocketReplaced(t *testing.T) {
	path := filepath.Join(directory(t), "admin.sock")
	s := open(t, api.Options{Path: path})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	stale(t, path)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got := names(t, filepath.Dir(path)); got != "admin.sock" {
		t.Errorf("left %q", got)
	}
	s = open(t, api.Options{Path: path})
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing where all is gone: %v", err)
	}
}

// TestSocketPath holds the longest path, one byte more, and a name that Linux takes for no file.
func TestSocketPath(t *testing.T) {
	longest := 107
	if runtime.GOOS == "darwin" {
		longest = 103
	}
	dir := directory(t)
	for length, want := range map[int]error{longest: nil, longest + 1: api.ErrPathTooLong, 4000: api.ErrPathTooLong} {
		o := api.Options{Path: filepath.Join(dir, strings.Repeat("s", length-len(dir)-1))}
		if want != nil {
			refuse(t, o, want, o.Path, strconv.Itoa(length), strconv.Itoa(longest))
			continue
		}
		serving(t, api.Options{Path: o.Path, Handlers: map[string]api.Handler{"echo": echo}})
		if err := api.Call(t.Context(), o.Path, "echo", nil, nil); err != nil {
			t.Error(err)
		}
	}
	t.Chdir(dir)
	serving(t, api.Options{Path: "@admin", Handlers: map[string]api.Handler{"echo": echo}})
	if mode(t, filepath.Join(dir, "@admin")).Type() != fs.ModeSocket {
		t.Error("@admin is no file")
	}
	if err := api.Call(t.Context(), "@admin", "echo", nil, nil); err != nil {
		t.Error(err)
	}
}
