package npx_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio/npx"
	"fluentd-perf/internal/upstream/stdio/process"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// most is how long anything may take that is to happen.
const most = 3 * time.Minute

// rig is a person with a home, a registry and a daemon's cache.
type rig struct {
	home, cache string
	env         []string // of npm and of servers
	registry    *mcptest.NPMRegistry
	guard       *process.Guard
	resolver    *npx.Resolver
	log         *lockedBuffer
}

// newRig makes one, with the npm of this machine unless PATH is another.
func newRig(t *testing.T, path string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{home: filepath.Join(dir, "home"), cache: filepath.Join(dir, "cache", "packages"), registry: mcptest.NewNPMRegistry(t), log: &lockedBuffer{}}
	r.env = []string{
		"HOME=" + r.home, "PATH=" + path, "NO_UPDATE_NOTIFIER=1", "npm_config_registry=" + r.registry.URL, "npm_config_prefix=" + r.home + "/global",
		"npm_config_fetch_retries=0", "npm_config_audit=false", "npm_config_fund=false", "npm_config_logs_max=0",
	}
	makeFolder(t, r.home)
	r.guard, r.resolver = newResolver(t, r.cache, r.log)
	return r
}

// another is the same person with another daemon, whose cache is empty but for what npm said of its settings: asking takes a second.
func (r *rig) another(t *testing.T) *rig {
	t.Helper()
	other := *r
	other.cache, other.log = filepath.Join(t.TempDir(), "packages"), &lockedBuffer{}
	makeFolder(t, other.cache)
	said, err := filepath.Glob(filepath.Join(r.cache, "npm-*.json"))
	if err != nil || len(said) != 1 {
		t.Fatalf("%q, %v", said, err)
	}
	if err := os.Link(said[0], filepath.Join(other.cache, filepath.Base(said[0]))); err != nil {
		t.Fatal(err)
	}
	other.guard, other.resolver = newResolver(t, other.cache, other.log)
	return &other
}

// newResolver makes the part of a daemon that is tested here.
func newResolver(t *testing.T, cache string, log io.Writer) (*process.Guard, *npx.Resolver) {
	t.Helper()
	guard := process.NewGuard(process.Options{})
	resolver := npx.New(npx.Options{Dir: cache, Start: guard.Start, Log: slog.New(slog.NewTextHandler(log, nil))})
	resolver.Clean()
	t.Cleanup(func() {
		resolver.Stop()
		guard.Close(canceled())
		resolver.Wait()
	})
	return guard, resolver
}

// machinePath is the PATH by which npx and node are found.
func machinePath(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"npx", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("these tests run npx (make setup): %v", err)
		}
	}
	return os.Getenv("PATH")
}

// options are those of an entry in a directory, the home where that is "".
func (r *rig) options(dir string, command ...string) npx.EntryOptions {
	if dir == "" {
		dir = r.home
	}
	return npx.EntryOptions{Name: "s", Command: command, Dir: dir, Env: r.env, NPMEnv: r.env}
}

func (r *rig) entry(dir string, command ...string) *npx.Entry {
	return r.resolver.Entry(r.options(dir, command...))
}

// report is what the programs of the tests' packages say of themselves.
type report struct {
	Package string   `json:"package"`
	Program string   `json:"program"` // the name by which it was run
	Args    []string `json:"args"`
	Cwd     string   `json:"cwd"`
	Secret  string   `json:"secret"`
}

// reporter is a script that prints its report.
func reporter(of string) string {
	return `#!/usr/bin/env node
console.log(JSON.stringify({package: ` + fmt.Sprintf("%q", of) + `, program: require("path").basename(process.argv[1]), args: process.argv.slice(2),
  cwd: process.cwd(), secret: process.env.SECRET || ""}))
`
}

// publish adds a package with one script for each program.
func (r *rig) publish(t *testing.T, name, version string, programs ...string) {
	t.Helper()
	p := mcptest.NPMPackage{Name: name, Version: version, Bin: map[string]string{}, Files: map[string]string{}}
	for _, program := range programs {
		p.Bin[program] = program + ".js"
		p.Files[program+".js"] = reporter(name + "@" + version + " " + program)
	}
	r.registry.Publish(t, p)
}

// run runs a command to its end and returns its report.
func (r *rig) run(t *testing.T, dir string, env, command []string) (report, error) {
	t.Helper()
	if dir == "" {
		dir = r.home
	}
	path, err := process.LookPath(command[0], dir, env)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, command[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, env, most
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return report{}, fmt.Errorf("%v: %w: %s", command, err, stderr.Bytes())
	}
	var said report
	if err := json.Unmarshal(stdout.Bytes(), &said); err != nil {
		t.Errorf("%v said %q: %v", command, stdout.Bytes(), err)
	}
	return said, nil
}

// runResolved resolves an entry and runs what that comes to.
func (r *rig) runResolved(t *testing.T, dir string, e *npx.Entry) report {
	t.Helper()
	u, err := e.Resolve(t.Context())
	if err != nil {
		t.Error(err)
		return report{}
	}
	defer u.Release()
	said, err := r.run(t, dir, u.Env, u.Command)
	if err != nil {
		t.Error(err)
	}
	return said
}

// asNPX resolves a command, runs it, and runs it by npx: both must be the same.
func (r *rig) asNPX(t *testing.T, dir string, command ...string) report {
	t.Helper()
	said := r.runResolved(t, dir, r.entry(dir, command...))
	byNPX, err := r.run(t, dir, r.env, command)
	if err != nil || !reflect.DeepEqual(said, byNPX) {
		t.Errorf("%v: ran %+v, npx runs %+v, %v", command, said, byNPX, err)
	}
	return said
}

// isWritten has a command run as it is written, for a reason. Then npx runs the package that is wanted, where one is.
func (r *rig) isWritten(t *testing.T, o npx.EntryOptions, reason, want string) {
	t.Helper()
	u, err := r.resolver.Entry(o).Resolve(t.Context())
	var written *npx.AsWritten
	if !errors.As(err, &written) || !strings.Contains(written.Reason, reason) {
		t.Errorf("%v: %v, %v; want it as it is written since %s", o.Command, u, err, reason)
	}
	if want == "" {
		return
	}
	if said, err := r.run(t, o.Dir, o.Env, o.Command); err != nil || said.Package != want {
		t.Errorf("npx runs %+v, %v; want %s", said, err, want)
	}
}

// resolves waits until an entry is resolved: soon after a failure it is not tried again.
func (r *rig) resolves(t *testing.T, e *npx.Entry) {
	t.Helper()
	within(t, "another try", func() bool {
		u, err := e.Resolve(t.Context())
		if err == nil {
			u.Release()
		}
		return err == nil
	})
}

// installs returns the folders of installs, finished or not.
func (r *rig) installs(t *testing.T) (folders []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(r.cache, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.IsDir()
	})
}

func makeFolder(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// writeFiles makes files below a directory, those with a #! executable.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		makeFolder(t, filepath.Dir(path))
		mode := os.FileMode(0o600)
		if strings.HasPrefix(files[name], "#!") {
			mode = 0o700
		}
		if err := os.WriteFile(path, []byte(files[name]), mode); err != nil {
			t.Fatal(err)
		}
	}
}
