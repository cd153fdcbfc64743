package api_test

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"fluentd-perf/internal/api"
)

// TestSocketGroup holds that a group gets in.
func TestSocketGroup(t *testing.T) {
	gid := os.Getgid() // of which the tests' user is a member, whoever that is
	dir := filepath.Join(directory(t), "run")
	path := filepath.Join(dir, "admin.sock")
	var said bytes.Buffer
	open(t, api.Options{Path: path, Group: strconv.Itoa(gid), Log: slog.New(slog.NewTextHandler(&said, nil))})
	for name, want := range map[string]fs.FileMode{path: 0o660 | fs.ModeSocket, dir: 0o710 | fs.ModeDir} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want || int(info.Sys().(*syscall.Stat_t).Gid) != gid {
			t.Errorf("%s: %v of %+v", name, info.Mode(), info.Sys())
		}
	}
	if said.Len() > 0 {
		t.Errorf("a warning: %s", &said)
	}
}

// TestSocketGroupUnknown holds that a group that does not exist costs nobody the socket.
func TestSocketGroupUnknown(t *testing.T) {
	for _, group := range []string{"no-such-group", "-1", "4294967295", "99999999999", "1.5"} {
		dir := filepath.Join(directory(t), "run")
		path := filepath.Join(dir, "admin.sock")
		var said bytes.Buffer
		open(t, api.Options{Path: path, Group: group, Log: slog.New(slog.NewTextHandler(&said, nil))})
		if got := mode(t, path); got != 0o600|fs.ModeSocket {
			t.Errorf("%s: the socket is %v", group, got)
		}
		if got := mode(t, dir); got != 0o700|fs.ModeDir {
			t.Errorf("%s: the directory is %v", group, got)
		}
		warned(t, said.String(), 1, "group="+group, "no such group", "admin.group")
	}
}

// warned holds that a log has so many warnings, and words.
func warned(t *testing.T, log string, warnings int, words ...string) {
	t.Helper()
	if strings.Count(log, "level=WARN") != warnings {
		t.Errorf("want %d warnings:\n%s", warnings, log)
	}
	for _, w := range words {
		if !strings.Contains(log, w) {
			t.Errorf("the log does not say %q:\n%s", w, log)
		}
	}
}

// TestSocketGroupOfOthers holds that a daemon whose user is no member of the group has a socket for itself.
func TestSocketGroupOfOthers(t *testing.T) {
	dir := directory(t)
	daemon := exec.Command("/proc/self/exe") // the way to it may be closed to another user
	if _, err := os.Stat(daemon.Path); err != nil {
		daemon = exec.Command(os.Args[0])
	}
	if os.Getuid() == 0 { // who is let do everything
		const nobody = 65534
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		daemon.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	path := filepath.Join(dir, "run", "admin.sock")
	daemon.Env = append(os.Environ(), stay+"="+path, stayGroup+"=0")
	var said bytes.Buffer
	daemon.Stderr = &said
	in, err := daemon.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	info, missing := os.Lstat(path)
	if err := errors.Join(in.Close(), daemon.Wait()); err != nil {
		t.Errorf("the daemon: %v\n%s", err, &said)
	}
	if line != "open\n" || missing != nil {
		t.Fatalf("the daemon says %q, %v, %v\n%s", line, err, missing, &said)
	}
	if info.Mode() != 0o600|fs.ModeSocket {
		t.Errorf("the socket is %v", info.Mode())
	}
	warned(t, said.String(), 1, "group=0", "not permitted", "must be a member")
}

// TestSocketGroupKeptOut holds that a directory that is there keeps its mode, and that it is said where that keeps the group
// out.
func TestSocketGroupKeptOut(t *testing.T) {
	for mode, warnings := range map[fs.FileMode]int{0o700: 1, 0o701: 1, 0o710: 0, 0o750: 0, 0o755: 0} {
		dir := directory(t)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, -1, os.Getgid()); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		path := filepath.Join(dir, "admin.sock")
		open(t, api.Options{Path: path, Group: strconv.Itoa(os.Getgid()), Log: slog.New(slog.NewTextHandler(&said, nil))})
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != mode {
			t.Errorf("the directory is %v, %v, want %v", info, err, mode)
		}
		words := []string{"cannot reach", "directory=" + dir}
		warned(t, said.String(), warnings, words[:2*warnings]...)
	}
}
