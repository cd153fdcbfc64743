package harness

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Folders are the folders of one daemon. A daemon that is started in the folders of an earlier one finds what that left.
type Folders struct {
	State   string // the cache's file, the key of partitions
	runtime string // the admin socket; a short path, since the name of a Unix socket has about 100 bytes at most
}

// NewFolders makes empty folders that go with the test.
func NewFolders(t testing.TB) Folders {
	t.Helper()
	return Folders{State: t.TempDir(), runtime: tempFolder(t, func() (string, error) { return os.MkdirTemp("", "fp") })}
}

// tempFolder makes a folder that goes with the test, where t.TempDir is too long or not open to others.
func tempFolder(t testing.TB, makeFolder func() (string, error)) string {
	t.Helper()
	folder, err := makeFolder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// Args are the arguments of `serve` that put a daemon there.
func (p Folders) Args() []string {
	return []string{"--state-dir", p.State, "--runtime-dir", p.runtime}
}

// Env keeps what has no argument out of the user's own folders.
func (p Folders) Env() []string {
	return []string{"XDG_RUNTIME_DIR=" + p.runtime, "XDG_STATE_HOME=" + p.State, "XDG_CACHE_HOME=" + p.State}
}

// Socket is the admin socket of the daemon that runs there.
func (p Folders) Socket() string { return filepath.Join(p.runtime, "admin.sock") }

// VerbJSON runs a verb with `-o json`, which must end well, and reads what it printed into v.
func (p Folders) VerbJSON(t testing.TB, v any, args ...string) {
	t.Helper()
	out, complaints, code := p.Verb(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil || code != 0 {
		t.Fatalf("%v: exit code %d, %v\n%s%s", args, code, err, out, complaints)
	}
}

// Verb runs a verb of fluentd-perf against the daemon that runs there and returns what it printed and its exit code.
func (p Folders) Verb(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), DaemonBinary, append(args, "--socket", p.Socket())...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	cmd.WaitDelay = MaxWait
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}
