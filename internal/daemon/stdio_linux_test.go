package daemon

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
)

// TestStdioServers: agents of both eras work with servers that are commands. Each legacy agent has a process of its own, all modern
// ones have one together.
func TestStdioServers(t *testing.T) {
	cfg := stdioConfig(t, map[string]*config.Stdio{"modern": stdioEntry(t, "both"), "legacy": stdioEntry(t, "legacy")})
	r := newStdioRig(t, Options{Config: cfg})
	for upstream, want := range map[string]int{"modern": 1, "legacy": 3} {
		pids := map[int]bool{}
		for range 3 {
			s := r.connect(upstream)
			tools, err := s.ListTools(t.Context(), nil)
			if err != nil || len(tools.Tools) != 3 {
				t.Fatalf("%s: %v, %v", upstream, tools, err)
			}
			pid, _ := count(t, s)
			pids[pid] = true
		}
		if len(pids) != want {
			t.Errorf("%s: three agents have %d processes, want %d", upstream, len(pids), want)
		}
	}
}

// TestStdioStages: the stages before a stdio server do what they do before others. Lists are shared once they were seen not to differ,
// by agents with other credentials too, of which a command is told nothing, and arrays are answered.
func TestStdioStages(t *testing.T) {
	cfg := stdioConfig(t, map[string]*config.Stdio{"both": stdioEntry(t, "both"), "legacy": stdioEntry(t, "legacy")})
	for i := range cfg.Upstreams {
		cfg.Upstreams[i].Cache.TTL = map[string]time.Duration{"tools/list": time.Minute}
	}
	r := newStdioRig(t, Options{Config: cfg})
	for _, r.by = range []string{"", "Bearer a", "Bearer b", "Bearer c"} {
		_, session := r.post("legacy", "", initializeRequest)
		r.post("legacy", session, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		if text, _ := r.post("legacy", session, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`); !strings.Contains(text, `"count"`) {
			t.Errorf("the list is %s", text)
		}
	}
	r.by = ""
	scrape, _ := scrapeOf(t, r.addr)
	if hits := scrape.sum("fluentd_perf_cache_requests_total", `outcome="hit"`, `upstream="legacy"`); hits == 0 {
		t.Error("four sessions, and no list came from the cache")
	}
	if asked := scrape.sum("fluentd_perf_upstream_duration_seconds_count", `kind="list"`, `upstream="legacy"`); asked == 0 || asked > 3 {
		t.Errorf("the servers answered %v lists of 4", asked)
	}
	for _, upstream := range []string{"both", "legacy"} {
		text := r.postTo("/rpc/"+upstream, `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"count"}},{"jsonrpc":"2.0","id":2,"method":"tools/list"}]`)
		if !strings.Contains(text, ` 1"`) || !strings.Contains(text, `"noise"`) {
			t.Errorf("an array to %s: %s", upstream, text)
		}
	}
}

// TestStdioIsolation: ten agents that call at the same time see their own state alone.
func TestStdioIsolation(t *testing.T) {
	r := newStdioRig(t, Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": stdioEntry(t, "legacy")})})
	owners := sync.Map{}
	var agents sync.WaitGroup
	for agent := range 10 {
		s := r.connect("s")
		agents.Go(func() {
			for n := range 20 {
				text, err := call(t, s, "count", nil)
				var pid, calls int
				_, _ = fmt.Sscan(text, &pid, &calls)
				if owner, _ := owners.LoadOrStore(pid, agent); err != nil || calls != n+1 || owner != agent {
					t.Errorf("agent %d, call %d: %q of agent %v, %v", agent, n+1, text, owner, err)
				}
			}
		})
	}
	agents.Wait()
}

// TestStdioKilled: a session whose process was killed goes on with another one. Only an agent whose process had state hears of it,
// once.
func TestStdioKilled(t *testing.T) {
	r := newStdioRig(t, Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": stdioEntry(t, "legacy")})})
	with, without := r.connect("s"), r.connect("s")
	pid, _ := count(t, with)
	killProcess(t, pid)
	within(t, 5*time.Second, "the end of the process", func() bool { return r.status("s").ProcessesNow == 1 })
	if _, err := call(t, with, "count", nil); failsWith(err) != mcp.CodeSessionRestart {
		t.Errorf("state is gone, and the agent hears %v", err)
	}
	if other, calls := count(t, with); other == pid || calls != 1 {
		t.Errorf("process %d after %d, %d calls", other, pid, calls)
	}
	r.killAll("s")
	within(t, 5*time.Second, "the end of both processes", func() bool { return r.status("s").ProcessesNow == 0 })
	if _, err := without.ListTools(t.Context(), nil); err != nil {
		t.Errorf("there was no state, and the agent hears %v", err)
	}
}

// TestStdioCommand: a command that is not there is said at once, with where it was looked for, and as often as it is asked for: no
// breaker hides it. When it is there it is started.
func TestStdioCommand(t *testing.T) {
	missing, two := stdioEntry(t, "legacy"), t.TempDir()
	program := missing.Command[0]
	missing.Command[0] = "no-such-server-anywhere"
	cfg := stdioConfig(t, map[string]*config.Stdio{"missing": missing})
	cfg.Processes.Path = config.SearchPath{Source: config.PathList, Directories: []string{"/nowhere/one", two}}
	r := newStdioRig(t, Options{Config: cfg})
	least := time.Hour
	for range 6 {
		begun := time.Now()
		text := first(r.post("missing", "", initializeRequest))
		least = min(least, time.Since(begun))
		if !strings.Contains(text, `"code":1502`) || !strings.Contains(text, "/nowhere/one, "+two+" (processes.path)") {
			t.Errorf("got %s", text)
		}
	}
	if least > 100*time.Millisecond {
		t.Errorf("it took %v at least", least)
	}
	if err := os.Symlink(program, filepath.Join(two, "no-such-server-anywhere")); err != nil {
		t.Fatal(err)
	}
	if text := first(r.post("missing", "", initializeRequest)); !strings.Contains(text, `"serverInfo"`) {
		t.Errorf("it has appeared, and the agent gets %s", text)
	}
}

// TestStdioRefuses: how a server ended that does not start stands in the error, its secrets do not; while it is not started again,
// too.
func TestStdioRefuses(t *testing.T) {
	refuses := stdioEntry(t, "refuses")
	refuses.Env = map[string]config.Secret{"OWN_TOKEN": {Value: "a-long-secret"}}
	cfg := stdioConfig(t, map[string]*config.Stdio{"s": refuses})
	cfg.Upstreams[0].Breaker.Off = true
	r := newStdioRig(t, Options{Config: cfg})
	for n := range 8 {
		text := first(r.post("s", "", initializeRequest))
		if !strings.Contains(text, `"code":1502`) || !strings.Contains(text, "exit status 3") ||
			!strings.Contains(text, "cannot find the configuration, token is [masked]") {
			t.Errorf("got %s", text)
		}
		if strings.Contains(text, "is started again in") {
			if n < 3 {
				t.Errorf("start %d: %s", n+1, text)
			}
			return
		}
	}
	t.Error("eight starts that failed, and none was put off") // three are enough where the next comes within a second: the waits double
}

// TestStdioCrashes: a server that crashes at server/discover does not speak 2026-07-28, and is not started again for that; of one that is
// killed nobody knows.
func TestStdioCrashes(t *testing.T) {
	for signal, starts := range map[string]string{"SEGV": "x", "ABRT": "x", "KILL": "xxx"} {
		entry := stdioEntry(t, "")
		entry.Command = []string{"/bin/sh", "-c", "printf x >>starts; read -r line; kill -" + signal + " $$"}
		cfg := stdioConfig(t, map[string]*config.Stdio{"s": entry})
		cfg.Upstreams[0].Breaker.Off = true
		r := newStdioRig(t, Options{Config: cfg})
		for range 3 {
			status, text := r.modern("s")
			if refused := status == http.StatusNotFound && strings.Contains(text, `"code":-32601`); refused != (starts == "x") {
				t.Errorf("%s: %d %s", signal, status, text)
			}
		}
		if got, err := os.ReadFile(filepath.Join(entry.Cwd, "starts")); err != nil || string(got) != starts {
			t.Errorf("%s: started %q, want %q: %v", signal, got, starts, err)
		}
	}
}

// TestStdioSlow: who does not wait for a start any longer hears that it goes on, and the next agent has its process.
func TestStdioSlow(t *testing.T) {
	release := filepath.Join(t.TempDir(), "release")
	slow := stdioEntry(t, "slow")
	slow.Env = map[string]config.Secret{"RELEASE": {Value: release}}
	cfg := stdioConfig(t, map[string]*config.Stdio{"s": slow})
	cfg.Upstreams[0].Timeouts.Handshake = 100 * time.Millisecond
	r := newStdioRig(t, Options{Config: cfg})
	if text, _ := r.post("s", "", initializeRequest); !strings.Contains(text, `"code":1504`) || !strings.Contains(text, "still_starting") {
		t.Errorf("got %s", text)
	}
	touch(t, release)
	within(t, 5*time.Second, "a spare", func() bool { return r.status("s").Processes[0].State == "spare" })
	if samples := r.d.cpuSamples(r.d.processes.guard); len(samples) != 1 || samples[0].end == nil {
		t.Errorf("nobody has it, and if it spins it is not ended: %+v", samples)
	}
	within(t, 5*time.Second, "a session", func() bool { _, session := r.post("s", "", initializeRequest); return session != "" }) // within 100 ms
	if n := r.status("s").ProcessesNow; n != 1 {
		t.Errorf("%d processes", n)
	}
}

// TestStdioMax: where no process may be added and none can go, who wants one waits for so long and is refused then.
func TestStdioMax(t *testing.T) {
	entry := stdioEntry(t, "legacy")
	entry.Processes.Max = 1
	cfg := stdioConfig(t, map[string]*config.Stdio{"s": entry})
	cfg.Upstreams[0].Limits.QueueWait = 50 * time.Millisecond
	r := newStdioRig(t, Options{Config: cfg})
	s, release := r.connect("s"), filepath.Join(t.TempDir(), "release")
	var calls sync.WaitGroup
	calls.Go(func() {
		if _, err := call(t, s, "wait", waitIn{release}); err != nil {
			t.Error(err)
		}
	})
	within(t, 5*time.Second, "a call", func() bool { return r.status("s").Processes[0].State == "busy" })
	if text := first(r.post("s", "", initializeRequest)); !strings.Contains(text, `"code":1429`) || !strings.Contains(text, "processes.max") {
		t.Errorf("got %s", text)
	}
	touch(t, release)
	calls.Wait()
}

// TestStdioIdle: a process that nobody uses goes, and another comes when somebody does.
func TestStdioIdle(t *testing.T) {
	entry := stdioEntry(t, "legacy")
	entry.Processes.IdleTimeout = 50 * time.Millisecond
	r := newStdioRig(t, Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": entry})})
	_, session := r.post("s", "", initializeRequest) // without a GET stream, which keeps a process with state
	r.post("s", session, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	within(t, 10*time.Second, "the end of the process", func() bool { return r.status("s").ProcessesNow == 0 })
	if text, _ := r.post("s", session, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`); !strings.Contains(text, `"count"`) {
		t.Errorf("after that: %s", text)
	}
	// Where the notification came late there was no process for it, either.
	if s := r.status("s").Sessions; s.Sessions != 1 || s.Healed < 1 || s.Healed > 2 || s.GaveUp != 0 {
		t.Errorf("sessions %+v", s)
	}
}

// TestStdioDrain: calls under way end, then the processes; the sessions are there for the next daemon.
func TestStdioDrain(t *testing.T) {
	o := Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": stdioEntry(t, "legacy")}), Paths: Paths{State: t.TempDir()}}
	r := newStdioRig(t, o)
	_, session := r.post("s", "", initializeRequest)
	before, _ := r.post("s", session, callOf("count", "{}"))
	pid := r.status("s").Processes[0].PID
	release := filepath.Join(t.TempDir(), "release")
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if text, _ := r.post("s", session, callOf("wait", fmt.Sprintf(`{"file":%q}`, release))); !strings.Contains(text, "waited") {
			t.Errorf("a call during the drain: %s", text)
		}
	})
	within(t, 5*time.Second, "a call", func() bool { return r.status("s").Processes[0].State == "busy" })
	waiting.Go(r.stop)
	within(t, 5*time.Second, "the drain", func() bool { _, err := http.Get("http://" + r.addr + "/healthz"); return err != nil })
	if gone(pid) {
		t.Error("the process has ended before its call")
	}
	touch(t, release)
	waiting.Wait()
	if !gone(pid) {
		t.Error("the daemon has ended, and its server has not")
	}
	r = newStdioRig(t, o)
	if text, _ := r.post("s", session, callOf("count", "{}")); !strings.Contains(text, `"code":1410`) {
		t.Errorf("state is gone with the daemon: %s", text)
	}
	if text, _ := r.post("s", session, callOf("count", "{}")); !strings.Contains(text, ` 1"`) || text == before {
		t.Errorf("the session goes on: %s", text)
	}
}

// TestStdioTakeOver: a daemon that starts while another one drains has that one's sessions, those included that began after its start.
func TestStdioTakeOver(t *testing.T) {
	o := Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": stdioEntry(t, "legacy")}), Paths: Paths{State: t.TempDir()}}
	before := newStdioRig(t, o)
	after := newStdioRig(t, o)
	_, session := before.post("s", "", initializeRequest)
	before.post("s", session, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	before.stop()
	within(t, 5*time.Second, "the session", func() bool {
		text, _ := after.post("s", session, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)
		return strings.Contains(text, `"count"`)
	})
	file := filepath.Join(o.Paths.State, sessionsFile)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, another := after.post("s", "", initializeRequest)
	within(t, 5*time.Second, "the file", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), session) && strings.Contains(string(text), another)
	})
}

// TestStdioMetrics: each metric of the processes moves.
func TestStdioMetrics(t *testing.T) {
	r := newStdioRig(t, Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": stdioEntry(t, "legacy")})})
	before, _ := scrapeOf(t, r.addr)
	if n := before.sum("fluentd_perf_processes{"); n != 0 {
		t.Errorf("%v processes before the first agent", n)
	}
	s := r.connect("s")
	if _, err := call(t, s, "noise", nil); err != nil {
		t.Fatal(err)
	}
	pid, _ := count(t, s)
	killProcess(t, pid)
	within(t, 5*time.Second, "the end of the process", func() bool { return r.status("s").ProcessesNow == 0 })
	if _, err := call(t, s, "count", nil); failsWith(err) != mcp.CodeSessionRestart {
		t.Error(err)
	}
	var after series
	within(t, 5*time.Second, "the state idle", func() bool {
		after, _ = scrapeOf(t, r.addr)
		return after[`fluentd_perf_processes{state="idle",upstream="s"}`] == 1
	})
	for name, least := range map[string]float64{
		`fluentd_perf_process_start_seconds_count{kind="cold",upstream="s"}`:          2,
		`fluentd_perf_process_resident_bytes{upstream="s"}`:                           1 << 20,
		`fluentd_perf_stderr_lines_dropped_total{upstream="s"}`:                       30,
		`fluentd_perf_junk_lines_total{upstream="s"}`:                                 1,
		`fluentd_perf_session_heals_total{result="healed",upstream="s"}`:              1,
		`fluentd_perf_upstream_duration_seconds_count{kind="call",upstream="s"}`:      2,
		`fluentd_perf_upstream_duration_seconds_count{kind="handshake",upstream="s"}`: 1,
	} {
		if after[name] < least {
			t.Errorf("%s is %v, want at least %v", name, after[name], least)
		}
	}
}

// TestStdioCPU: the CPU time of processes is watched, and status says who uses a core without a call.
func TestStdioCPU(t *testing.T) {
	entry := stdioEntry(t, "legacy")
	entry.Processes.IdleTimeout = 5 * time.Second // its GET stream may come late
	r := newStdioRig(t, Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": entry})})
	count(t, r.connect("s")) // state and a GET stream: its process stays
	within(t, 5*time.Second, "the end of the call", func() bool {
		all := r.d.cpuSamples(r.d.processes.guard)
		return len(all) == 1 && !all[0].unused.IsZero() && all[0].timeout == 5*time.Second
	})
	watch, spinning := r.d.processes.cpu, 90*time.Second
	within(t, 10*time.Second, "a sample", func() bool {
		watch.mu.Lock()
		defer watch.mu.Unlock()
		for p, span := range watch.spans {
			watch.spans[p] = cpuSpan{from: span.to.Add(-spinning), to: span.to, cpu: -time.Hour, long: true} // and so is the next
		}
		return len(watch.spans) > 0
	})
	if got := r.status("s").Processes[0].BusyMs; got < spinning.Milliseconds() {
		t.Errorf("busy for %d ms", got)
	}
}

// TestStdioCPUEnds: what spins and no session has is ended so that the next call has another process at once, and one that is being
// called is not ended.
func TestStdioCPUEnds(t *testing.T) {
	r := newStdioRig(t, Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": stdioEntry(t, "both")})})
	count(t, r.connect("s"))
	samples := r.d.cpuSamples(r.d.processes.guard)
	if len(samples) != 1 || samples[0].end == nil {
		t.Fatalf("%+v", samples)
	}
	pid, file := samples[0].process.PID(), filepath.Join(t.TempDir(), "release")
	var calls sync.WaitGroup
	agent := r.connect("s")
	calls.Go(func() {
		if _, err := call(t, agent, "wait", waitIn{file}); err != nil {
			t.Error(err)
		}
	})
	within(t, 10*time.Second, "a call", func() bool { return r.status("s").Processes[0].State == "busy" })
	if samples[0].end() {
		t.Error("it was ended in a call")
	}
	touch(t, file)
	calls.Wait()
	within(t, 10*time.Second, "its end", samples[0].end)
	if other, n := count(t, agent); other == pid || n != 1 {
		t.Errorf("process %d after %d, call %d", other, pid, n)
	}
	r.post("s", "", initializeRequest)
	shared := map[int]bool{}
	for _, p := range r.status("s").Processes {
		shared[p.PID] = p.Shared
	}
	for _, s := range r.d.cpuSamples(r.d.processes.guard) {
		if s.process.PID() != pid && (s.end != nil) != shared[s.process.PID()] { // that one may be ending still
			t.Errorf("process %d: is it to be ended: %v", s.process.PID(), s.end != nil)
		}
	}
	if !slices.Contains(slices.Collect(maps.Values(shared)), false) {
		t.Error("no session has a process")
	}
}

// TestStdioRetires: a pipeline that nobody is sent to any more ends its own processes, and no others.
func TestStdioRetires(t *testing.T) {
	cfg := stdioConfig(t, map[string]*config.Stdio{"stays": stdioEntry(t, "legacy"), "goes": stdioEntry(t, "legacy")})
	r := newStdioRig(t, Options{Config: cfg})
	pids := map[string]int{}
	for name := range map[string]bool{"stays": true, "goes": true} {
		r.post(name, "", initializeRequest)
		pids[name] = r.status(name).Processes[0].PID
	}
	var left []*pipeline
	for _, p := range r.d.routed() {
		if p.entry.Name == "stays" {
			left = append(left, p)
		}
	}
	if err := r.d.route(left); err != nil {
		t.Fatal(err)
	}
	r.d.retiring.Wait()
	if !gone(pids["goes"]) || gone(pids["stays"]) {
		t.Errorf("gone: %v; and of the one that stays: %v", gone(pids["goes"]), gone(pids["stays"]))
	}
}

func touch(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func first(text, _ string) string { return text }

// TestSampleProcesses: the processes of a server and their memory are in a sample that asks for them, and their number in each.
func TestSampleProcesses(t *testing.T) {
	r := newStdioRig(t, Options{Config: stdioConfig(t, map[string]*config.Stdio{"s": stdioEntry(t, "legacy")})})
	r.connect("s")
	u := sampleOf(t, r.d, api.SampleParams{}).Upstreams[0]
	if u.ProcessesNow != 1 || len(u.Processes) != 0 {
		t.Errorf("not asked: %+v", u)
	}
	u = sampleOf(t, r.d, api.SampleParams{Processes: true}).Upstreams[0]
	if u.ProcessesNow != 1 || len(u.Processes) != 1 || u.Processes[0].RSS < 1<<20 || u.Processes[0].PID == 0 {
		t.Errorf("asked: %+v", u)
	}
}
