package daemon

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/config"
)

// smallServer is a server of a few lines for /bin/sh. What `begin` and `call` do are variables of its environment: at its start, and
// before it answers what is no handshake. It notes its starts and calls in its directory.
const smallServer = `
echo x >>starts
eval "$begin"
say() { printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }
while read -r line; do
	id=${line#*'"id":'}; id=${id%%[,\}]*}
	case $line in
	*'"server/discover"'*) say "${discover:-\"error\":{\"code\":-32601,\"message\":\"m\"\}}";;
	*'"initialize"'*) say '"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"'"$INHERITED"'","version":"1"}}';;
	*'"id":'*) echo x >>calls; eval "$call"; say '"result":{"tools":[]}';;
	esac
done`

const (
	discovers = `"result":{"resultType":"complete","supportedVersions":["2026-07-28"]}`
	// untilFree waits for a file in its directory.
	untilFree = `while [ ! -e free ]; do sleep 0.01; done`
)

// smallEntry is an entry for it, with variables of its environment.
func smallEntry(t *testing.T, env ...string) *config.Stdio {
	t.Helper()
	entry := stdioEntry(t, "")
	script := filepath.Join(entry.Cwd, "server")
	if err := os.WriteFile(script, []byte(smallServer), 0o600); err != nil {
		t.Fatal(err)
	}
	entry.Command, entry.Env = []string{"/bin/sh", script}, map[string]config.Secret{}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		entry.Env[name] = config.Secret{Value: value}
	}
	return entry
}

// smallRig is a daemon with such servers, by name.
func smallRig(t *testing.T, entries map[string]*config.Stdio, change func(cfg *config.Config, u map[string]*config.Upstream)) *stdioRig {
	t.Helper()
	cfg, named := stdioConfig(t, entries), map[string]*config.Upstream{}
	for i := range cfg.Upstreams {
		named[cfg.Upstreams[i].Name] = &cfg.Upstreams[i]
	}
	if change != nil {
		change(cfg, named)
	}
	return newStdioRig(t, Options{Config: cfg})
}

// starts is how often a server was started, and calls how often one was called.
func starts(entry *config.Stdio) int { return noted(entry, "starts") }
func calls(entry *config.Stdio) int  { return noted(entry, "calls") }

func noted(entry *config.Stdio, file string) int {
	text, _ := os.ReadFile(filepath.Join(entry.Cwd, file))
	return bytes.Count(text, []byte("x"))
}

func free(t *testing.T, entry *config.Stdio) {
	t.Helper()
	touch(t, filepath.Join(entry.Cwd, "free"))
}

// begin posts a message, and returns what waits for the answer.
func (r *stdioRig) begin(upstream, session, body string) (wait func()) {
	var all sync.WaitGroup
	all.Go(func() {
		if text, _ := r.post(upstream, session, body); !strings.Contains(text, `"result"`) {
			r.t.Errorf("%s: %s", upstream, text)
		}
	})
	return all.Wait
}

// TestStdioLimitsAreHandedOn: processes.memory and tasks, alone and together, where the daemon has no cgroup to divide.
func TestStdioLimitsAreHandedOn(t *testing.T) {
	for want, limits := range map[string]config.Processes{
		" -p MemoryMax=1073741824 -p TasksMax=64 -- ": {Memory: 1 << 30, Tasks: 64},
		" -p MemoryMax=1073741824 -- ":                {Memory: 1 << 30},
		" -p TasksMax=64 -- ":                         {Tasks: 64},
	} {
		dir := madeUpSystemdRun(t)
		entry := smallEntry(t)
		entry.Processes.Memory, entry.Processes.Tasks = limits.Memory, limits.Tasks
		smallRig(t, map[string]*config.Stdio{"s": entry}, nil).post("s", "", initializeRequest)
		calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
		if !strings.Contains(string(calls), " --description=fluentd-perf: s"+want) {
			t.Errorf("want %s, and systemd-run was called with\n%s", want, calls)
		}
	}
}

// madeUpSystemdRun makes a systemd-run in PATH, and returns its directory: it notes its arguments there in a file `calls`, and fails where
// a file `broken` is, but for tries.
func madeUpSystemdRun(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\ncd " + dir + `
echo "$@" >>calls
case "$*" in *"a try"*) ;; *) [ ! -e broken ] || exit 1;; esac
while [ "$1" != -- ]; do shift; done; shift; cd "$OLDPWD"; exec "$@"`
	if err := os.WriteFile(filepath.Join(dir, "systemd-run"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
	return dir
}

// TestStdioScopeFails: that systemd-run has failed says nothing of the server's era.
func TestStdioScopeFails(t *testing.T) {
	broken := filepath.Join(madeUpSystemdRun(t), "broken")
	entry := smallEntry(t, "discover="+discovers)
	entry.Processes.Tasks = 64
	r := smallRig(t, map[string]*config.Stdio{"s": entry}, nil)
	touch(t, broken)
	if status, text := r.modern("s"); status == http.StatusNotFound || !strings.Contains(text, `"code":1502`) || !strings.Contains(text, "systemd-run") {
		t.Errorf("%d %s", status, text)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if status, text := r.modern("s"); status != http.StatusOK || !strings.Contains(text, `"result"`) {
		t.Errorf("after that: %d %s", status, text)
	}
}

// TestStdioTotal: processes.total bounds those of all servers together.
func TestStdioTotal(t *testing.T) {
	one := smallEntry(t, "call="+untilFree)
	r := smallRig(t, map[string]*config.Stdio{"one": one, "other": smallEntry(t)}, func(cfg *config.Config, u map[string]*config.Upstream) {
		cfg.Processes.Total = 1
		u["other"].Limits.QueueWait = 50 * time.Millisecond
	})
	_, session := r.post("one", "", initializeRequest)
	wait := r.begin("one", session, callOf("x", "{}"))
	within(t, 10*time.Second, "a call", func() bool { return calls(one) == 1 })
	if text := first(r.post("other", "", initializeRequest)); !strings.Contains(text, `"code":1429`) {
		t.Errorf("got %s", text)
	}
	free(t, one)
	wait()
}

// TestStdioStartConcurrency: processes.start_concurrency bounds how many start at once, until they have said something.
func TestStdioStartConcurrency(t *testing.T) {
	one := smallEntry(t, "begin="+untilFree)
	r := smallRig(t, map[string]*config.Stdio{"one": one, "other": smallEntry(t)}, func(cfg *config.Config, u map[string]*config.Upstream) {
		cfg.Processes.StartConcurrency = 1
		u["other"].Timeouts.Handshake = 300 * time.Millisecond
	})
	begun := time.Now()
	wait := r.begin("one", "", initializeRequest)
	within(t, 10*time.Second, "a start", func() bool { return starts(one) == 1 })
	// One that says nothing makes room after five seconds.
	if text := first(r.post("other", "", initializeRequest)); !strings.Contains(text, "still_starting") && time.Since(begun) < 4*time.Second {
		t.Errorf("got %s", text)
	}
	free(t, one)
	wait()
	within(t, 10*time.Second, "the other start", func() bool {
		text, _ := r.post("other", "", initializeRequest)
		return strings.Contains(text, `"result"`)
	})
}

// TestStdioStartTimeout: processes.start_timeout bounds a start.
func TestStdioStartTimeout(t *testing.T) {
	r := smallRig(t, map[string]*config.Stdio{"s": smallEntry(t, "begin=cat >/dev/null")}, func(cfg *config.Config, u map[string]*config.Upstream) {
		cfg.Processes.StartTimeout, u["s"].Timeouts.Handshake = 123*time.Millisecond, 20*time.Second
	})
	if text := first(r.post("s", "", initializeRequest)); !strings.Contains(text, "within 123ms (processes.start_timeout)") {
		t.Errorf("got %s", text)
	}
}

// TestStdioReplicas: processes.replicas bounds the processes of the modern era.
func TestStdioReplicas(t *testing.T) {
	entry := smallEntry(t, "discover="+discovers, "call="+untilFree)
	entry.Processes.Replicas = 2
	r := smallRig(t, map[string]*config.Stdio{"s": entry}, nil)
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			if status, text := r.modernPost("s", "tools/call", "x"); status != http.StatusOK || !strings.Contains(text, `"result"`) {
				t.Errorf("%d %s", status, text)
			}
		})
		// The second call goes to the first process, too: another is started behind it.
		within(t, 10*time.Second, "a process for each", func() bool { return starts(entry) == min(n+1, 2) && calls(entry) >= 1 })
	}
	free(t, entry)
	all.Wait()
	if n := starts(entry); n != 2 {
		t.Errorf("%d processes, want 2", n)
	}
}

// TestStdioInheritsEnv: inherit_env names what a server gets of the daemon's environment besides what is usual.
func TestStdioInheritsEnv(t *testing.T) {
	t.Setenv("INHERITED", "by name")
	with, without := smallEntry(t), smallEntry(t)
	with.InheritEnv = []string{"INHER*"}
	r := smallRig(t, map[string]*config.Stdio{"with": with, "without": without}, nil)
	for name, want := range map[string]string{"with": `"name":"by name"`, "without": `"name":""`} {
		if text := first(r.post(name, "", initializeRequest)); !strings.Contains(text, want) {
			t.Errorf("%s: got %s", name, text)
		}
	}
}

// TestStdioLineLimit: limits.event bounds a message of a server's.
func TestStdioLineLimit(t *testing.T) {
	r := smallRig(t, map[string]*config.Stdio{"s": smallEntry(t, "call=printf %4000s")}, func(cfg *config.Config, _ map[string]*config.Upstream) {
		cfg.Limits.Event = 3000
	})
	_, session := r.post("s", "", initializeRequest)
	if text, _ := r.post("s", session, callOf("x", "{}")); !strings.Contains(text, "more than 3000 bytes (limits.event)") {
		t.Errorf("got %s", text)
	}
}

// TestStdioHeal: sessions.heal says what becomes of a session whose process was killed.
func TestStdioHeal(t *testing.T) {
	wants := map[config.Heal]string{config.HealReads: `"code":1410`, config.HealAll: `"result"`, config.HealOff: "session not found"}
	entries, sessions := map[string]*config.Stdio{}, map[string]string{}
	for heal := range wants {
		entries[string(heal)] = smallEntry(t)
	}
	r := smallRig(t, entries, func(_ *config.Config, all map[string]*config.Upstream) {
		for name, u := range all {
			u.Sessions.Heal = config.Heal(name)
		}
	})
	for name := range entries {
		_, sessions[name] = r.post(name, "", initializeRequest)
		r.post(name, sessions[name], callOf("x", "{}"))
		r.killAll(name)
	}
	for heal, want := range wants {
		name := string(heal)
		within(t, 10*time.Second, "the end of the process", func() bool { return r.status(name).ProcessesNow == 0 })
		if text, _ := r.post(name, sessions[name], callOf("x", "{}")); !strings.Contains(text, want) {
			t.Errorf("%s: got %s", name, text)
		}
	}
}

// TestStdioOnDisk: a server that has refused the modern era is asked again when its script is another one.
func TestStdioOnDisk(t *testing.T) {
	entry := smallEntry(t)
	r := smallRig(t, map[string]*config.Stdio{"s": entry}, nil)
	for n, want := range []int{1, 1, 2} {
		if n == 2 {
			if err := os.WriteFile(entry.Command[1], []byte(smallServer+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if status, text := r.modern("s"); status != http.StatusNotFound {
			t.Errorf("%d %s", status, text)
		}
		if got := starts(entry); got != want {
			t.Errorf("request %d: %d starts, want %d", n+1, got, want)
		}
	}
}

// TestStdioJunk: what a server writes beside its messages is logged without its secrets.
func TestStdioJunk(t *testing.T) {
	var log bytes.Buffer
	entry := smallEntry(t, "TOKEN=a-long-secret", `begin=echo "my token is $TOKEN"`)
	r := newStdioRig(t, Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": entry}), Log: slog.New(slog.NewTextHandler(&log, nil))})
	r.post("s", "", initializeRequest)
	r.stop()
	if got := log.String(); !strings.Contains(got, "my token is [masked]") || strings.Contains(got, "a-long-secret") {
		t.Errorf("logged:\n%s", got)
	}
}

// TestStdioBreaker: starts that fail count towards the breaker.
func TestStdioBreaker(t *testing.T) {
	entry := smallEntry(t, "begin=exit 3")
	r := smallRig(t, map[string]*config.Stdio{"s": entry}, func(_ *config.Config, u map[string]*config.Upstream) {
		u["s"].Breaker.InARow = 2
	})
	for n, want := range []string{`"code":1502`, `"code":1502`, `"code":1503`} {
		if text := first(r.post("s", "", initializeRequest)); !strings.Contains(text, want) {
			t.Errorf("start %d: %s", n+1, text)
		}
	}
	if n := starts(entry); n != 2 {
		t.Errorf("%d starts, want 2", n)
	}
}

// listed begins a session and asks for its tools.
func (r *stdioRig) listed(upstream string) (session, cacheStatus string) {
	r.t.Helper()
	_, session = r.post(upstream, "", initializeRequest)
	r.post(upstream, session, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return session, r.list(upstream, session)
}

func (r *stdioRig) list(upstream, session string) (cacheStatus string) {
	r.t.Helper()
	text, header := r.send(upstream, session, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
	if !strings.Contains(text, `"tools"`) {
		r.t.Errorf("%s: the list is %s", upstream, text)
	}
	return header.Get("Cache-Status")
}

// TestStdioEndInvalidates: when a process has ended by itself the next list is asked of a server again, and shared as before: the end says
// nothing of whether sessions get the same. The end of a process that was reaped changes nothing.
func TestStdioEndInvalidates(t *testing.T) {
	entries := map[string]*config.Stdio{"killed": smallEntry(t), "reaped": smallEntry(t)}
	entries["reaped"].Processes.IdleTimeout = 50 * time.Millisecond
	r := smallRig(t, entries, nil)
	third := map[string]string{}
	for upstream := range entries {
		r.listed(upstream)
		_, second := r.listed(upstream)
		session, status := r.listed(upstream)
		if !strings.HasSuffix(second, "; stored") || !strings.Contains(status, "; hit; ") {
			t.Errorf("%s: the second session's list is %q, the third one's %q", upstream, second, status)
		}
		third[upstream] = session
	}
	r.killAll("killed")
	for upstream, want := range map[string]string{"killed": "; fwd=miss", "reaped": "; hit; "} {
		within(t, 10*time.Second, "the end of all processes of "+upstream, func() bool { return r.status(upstream).ProcessesNow == 0 })
		if status := r.list(upstream, third[upstream]); !strings.Contains(status, want) {
			t.Errorf("%s, after the end of all processes: %q, want %q", upstream, status, want)
		}
	}
	within(t, 10*time.Second, "a list that is kept", func() bool { _, status := r.listed("killed"); return strings.Contains(status, "; hit; ") })
}

// TestStdioEditInvalidates: what is cached of a script is not what it gives once it was edited, though its initialize is the same, nor what
// a process gives after that which was started before it.
func TestStdioEditInvalidates(t *testing.T) {
	entry := smallEntry(t)
	r := smallRig(t, map[string]*config.Stdio{"s": entry}, nil)
	old, status := "", ""
	for _, want := range []string{"; fwd=miss", "; stored", "; hit; "} {
		if old, status = r.listed("s"); !strings.Contains(status, want) {
			t.Errorf("before: %q, want %q", status, want)
		}
	}
	if err := os.WriteFile(entry.Command[1], []byte(smallServer+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.post("s", "", initializeRequest)
	if status := r.list("s", old); !strings.HasSuffix(status, "; fwd=miss") {
		t.Errorf("what a process of before the edit says is kept: %q", status)
	}
	if _, status := r.listed("s"); !strings.Contains(status, "; fwd=miss") {
		t.Errorf("after an edit: %q", status)
	}
}

// TestStdioEditModern: nothing is kept of a modern process of before an edit once a process of after it has answered.
func TestStdioEditModern(t *testing.T) {
	entry := smallEntry(t, "discover="+discovers)
	r := smallRig(t, map[string]*config.Stdio{"s": entry}, func(_ *config.Config, u map[string]*config.Upstream) {
		u["s"].Cache.TTL = map[string]time.Duration{"tools/list": time.Minute}
	})
	for range 2 {
		r.modern("s")
	}
	if n := calls(entry); n != 1 {
		t.Fatalf("two lists: the server was asked for %d", n)
	}
	if err := os.WriteFile(entry.Command[1], []byte(smallServer+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.post("s", "", initializeRequest) // a process of after the edit answers a session; the one of all modern agents is of before it
	for range 2 {
		r.modern("s")
	}
	if n := calls(entry); n != 3 {
		t.Errorf("two lists before an edit and two after it, of a process from before: the server was asked for %d, want 3", n)
	}
}

// TestStdioEndInvalidatesModern is TestStdioEndInvalidates for the process that the agents of the modern era share.
func TestStdioEndInvalidatesModern(t *testing.T) {
	entry := smallEntry(t, "discover="+discovers)
	r := smallRig(t, map[string]*config.Stdio{"s": entry}, func(_ *config.Config, u map[string]*config.Upstream) {
		u["s"].Cache.TTL = map[string]time.Duration{"tools/list": time.Minute}
	})
	for asked := 1; asked <= 2; asked++ {
		for range 2 {
			if _, text := r.modern("s"); !strings.Contains(text, `"tools"`) {
				t.Errorf("the list is %s", text)
			}
		}
		if n := calls(entry); n != asked {
			t.Errorf("two lists of each of %d processes: the server was asked for %d", asked, n)
		}
		r.killAll("s")
		within(t, 10*time.Second, "the end of the process", func() bool { return r.status("s").ProcessesNow == 0 })
	}
}
