package daemon

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/config"
)

// loginHome makes a home directory whose start files are a profile, and that of this process. In it a version manager has put a node,
// which is the test binary.
func loginHome(t *testing.T, profile string) (home string) {
	t.Helper()
	home = t.TempDir()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	node := "#!/bin/sh\nexec '" + binary + "' \"$@\"\n"
	for name, text := range map[string]string{".profile": profile, "versions/v22/bin/node": node, "versions/v22/bin/other-node": node} {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"HOME": home, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": t.TempDir()} {
		t.Setenv(name, value)
	}
	for _, name := range slices.Concat(managerNames, desktopNames) {
		t.Setenv(name, "")
	}
	return home
}

const nodeProfile = "export PATH=\"$HOME/versions/v22/bin:$PATH\" FROM_SHELL=1 FROM_SHELL_TOKEN=2\n"

// nodeConfig has a server whose program is node, with a source of PATH.
func nodeConfig(t *testing.T, source config.PathSource) *config.Config {
	t.Helper()
	entry := stdioEntry(t, "legacy")
	entry.Command[0], entry.InheritEnv = "node", []string{"FROM_SHELL"}
	if source != config.PathLogin { // there may be a node in the daemon's own PATH
		entry.Command[0] = "other-node"
	}
	cfg := stdioConfig(t, map[string]*config.Stdio{"s": entry})
	cfg.Processes.Path = config.SearchPath{Source: source}
	return cfg
}

// TestLoginPath: under path: login a server is found and started with the environment of the login shell, of which it gets no more
// than of any other. Where nothing is said the login shell is asked for what is not found.
func TestLoginPath(t *testing.T) {
	for _, source := range []config.PathSource{config.PathLogin, ""} {
		home := loginHome(t, nodeProfile)
		r := newStdioRig(t, Options{Config: nodeConfig(t, source)})
		pid, calls := count(t, r.connect("s"))
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		environ := strings.Split(string(text), "\x00")
		for _, want := range []string{"PATH=" + home + "/versions/v22/bin:", "FROM_SHELL=1", "HOME=" + home} { // what else is in PATH says /etc/profile
			if err != nil || !slices.ContainsFunc(environ, func(word string) bool { return strings.HasPrefix(word, want) }) {
				t.Errorf("%q: %q is not in %q, %v", source, want, environ, err)
			}
		}
		if strings.Contains(string(text), "FROM_SHELL_TOKEN") || strings.Contains(string(text), "TERM=dumb") {
			t.Errorf("%q: too much is in %q", source, environ)
		}
		r.stop()
	}
}

// TestLoginPathNotFound: the error says in which directories a command was looked for, and where those are from.
func TestLoginPathNotFound(t *testing.T) {
	loginHome(t, "export PATH=/none/of/shell:/usr/bin:/bin")
	for source, want := range map[config.PathSource]string{
		config.PathLogin:   "/none/of/shell, /usr/bin, /bin (PATH of the login shell /bin/sh)",
		"":                 "/none/of/shell, /usr/bin, /bin (PATH of the login shell /bin/sh)",
		config.PathInherit: "/usr/bin, /bin (the daemon's own PATH)",
	} {
		cfg := nodeConfig(t, source)
		cfg.Upstreams[0].Stdio.Command[0] = "no-such-node"
		r := newStdioRig(t, Options{Config: cfg})
		if text := first(r.post("s", "", initializeRequest)); !strings.Contains(text, `"code":1502`) || !strings.Contains(text, want) {
			t.Errorf("%q: %s, want %s", source, text, want)
		}
		r.stop()
	}
}

// waitingProfile lets the shell wait until a file is there.
const waitingProfile = "touch \"$HOME/began\"\nwhile [ ! -e \"$HOME/release\" ]; do sleep 0.01; done\n" + nodeProfile

// TestLoginShellIsSlow: the daemon is ready before the login shell has ended, and other servers are not held up. Calls that need it
// wait, arrays and streams too, and are answered.
func TestLoginShellIsSlow(t *testing.T) {
	home := loginHome(t, waitingProfile)
	cfg := nodeConfig(t, "")
	other := stdioEntry(t, "legacy") // which is found
	of := stdioConfig(t, map[string]*config.Stdio{"other": other})
	cfg.Upstreams = append(cfg.Upstreams, of.Upstreams...)
	r := newStdioRig(t, Options{Config: cfg})
	within(t, time.Minute, "the shell", func() bool { _, err := os.Stat(home + "/began"); return err == nil })
	if resp, err := http.Get("http://" + r.addr + "/readyz"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("not ready: %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	if text, _ := r.post("other", "", initializeRequest); !strings.Contains(text, `"result"`) {
		t.Errorf("the other server is not there: %s", text)
	}
	scrapeOf(t, r.addr)
	if routed := r.d.routed(); len(routed) != 1 || routed[0].entry.Name != "other" {
		t.Errorf("%d pipelines are open", len(routed))
	}
	var waiting sync.WaitGroup
	answered := make(chan string, 2)
	waiting.Go(func() { answered <- first(r.post("s", "", initializeRequest)) })
	waiting.Go(func() { answered <- r.postTo("/rpc/s", `[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]`) })
	within(t, time.Minute, "both calls", func() bool { return r.d.handler.InFlight() == 2 })
	select {
	case text := <-answered:
		t.Errorf("answered without an environment: %s", text)
	default:
	}
	touch(t, home+"/release")
	waiting.Wait()
	for range 2 {
		if text := <-answered; !strings.Contains(text, `"result"`) {
			t.Error(text)
		}
	}
	if n := r.status("s").ProcessesNow; n == 0 {
		t.Error("no process")
	}
}

// TestLoginIdentity: what a server gets of the login shell is part of what makes it another one; an answer under one value of a
// credential is none under another.
func TestLoginIdentity(t *testing.T) {
	home, cfg := loginHome(t, ""), nodeConfig(t, config.PathLogin)
	var identities []string
	for _, profile := range []string{"export FROM_SHELL=1 OTHER=1", "export FROM_SHELL=1 OTHER=2", "export FROM_SHELL=2 OTHER=2"} {
		if err := os.WriteFile(home+"/.profile", []byte(profile), 0o600); err != nil {
			t.Fatal(err)
		}
		r := newStdioRig(t, Options{Config: cfg})
		within(t, time.Minute, "the pipeline", func() bool { return len(r.d.routed()) == 1 })
		identities = append(identities, r.d.routed()[0].identity())
		r.stop()
	}
	if identities[0] != identities[1] || identities[1] == identities[2] {
		t.Errorf("identities %q", identities)
	}
}

// TestLoginShellHangs: a drain does not wait for a login shell, and neither does who leaves; a pipeline that waits for one can be retired.
func TestLoginShellHangs(t *testing.T) {
	home := loginHome(t, waitingProfile)
	for _, ends := range []string{"drained", "retired"} {
		r := newStdioRig(t, Options{Config: nodeConfig(t, config.PathLogin)})
		within(t, time.Minute, "the shell", func() bool { _, err := os.Stat(home + "/began"); return err == nil })
		r.leaves()
		if ends == "retired" {
			p := r.d.all()[0]
			if err := r.d.route(nil); err != nil {
				t.Fatal(err)
			}
			r.d.retiring.Wait()
			if p.isOpen() || p.ctx.Err() == nil {
				t.Error("it was opened, or is not closed")
			}
		}
		r.stop()
		for _, pid := range withHome(t, home) {
			text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
			t.Errorf("%s: process %d is left: %q", ends, pid, text)
		}
	}
}

// leaves makes a call, and gives it up when it is under way.
func (r *stdioRig) leaves() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	var call sync.WaitGroup
	call.Go(func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.addr+"/mcp/s", strings.NewReader(initializeRequest))
		if err != nil {
			r.t.Error(err)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			r.t.Errorf("it was answered: %s", resp.Status)
		}
	})
	within(r.t, time.Minute, "the call", func() bool { return r.d.handler.InFlight() == 1 })
	cancel()
	call.Wait()
	within(r.t, time.Minute, "the call's end", func() bool { return r.d.handler.InFlight() == 0 })
}

// withHome returns the processes that have a home directory, but this one.
func withHome(t *testing.T, home string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		var pid int
		text, err := os.ReadFile(file)
		if _, serr := fmt.Sscan(filepath.Base(filepath.Dir(file)), &pid); err == nil && serr == nil && pid != os.Getpid() && strings.Contains(string(text), "\x00HOME="+home+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}
