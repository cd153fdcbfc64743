package harness

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Script is the path of a script of e2e/node, bundled with the SDK that it imports.
func Script(name string) string { return filepath.Join(NodeDir, "node_modules/.bundled", name+".mjs") }

// NPMServerScript is the path of npm's server-NAME, bundled with what it imports: the same code, read in half the time.
func NPMServerScript(name string) string {
	file := "bundled.mjs"
	if name == "everything" { // reads its texts from beside the folder that it is in
		file = "bundled/index.mjs"
	}
	return filepath.Join(NodeDir, "node_modules/@modelcontextprotocol/server-"+name, "dist", file)
}

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
