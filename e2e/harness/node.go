package harness

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"
)

// RunNode runs a script of ours to its end and returns its stdout.
func RunNode(t testing.TB, args ...string) []byte {
	t.Helper()
	return RunNodeWith(t, nil, args...)
}

// RunNodeWith is RunNode with more environment.
func RunNodeWith(t testing.TB, env []string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Node, args...)
	cmd.Dir = NodeDir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = ChildAttributes()
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.Bytes())
	}
	return stdout.Bytes()
}
