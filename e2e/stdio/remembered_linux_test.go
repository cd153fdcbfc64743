package stdio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/api"
)

// timed measures the requests of one agent by their method.
type timed struct {
	base http.RoundTripper

	mu    sync.Mutex
	times map[string]time.Duration // the longest
}

// RoundTrip implements http.RoundTripper. An answer is read whole, but for a stream's.
func (x *timed) RoundTrip(r *http.Request) (*http.Response, error) {
	var m struct{ Method string }
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		_ = json.Unmarshal(body, &m) // which the SDK has written
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	begun := time.Now()
	res, err := x.base.RoundTrip(r)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.times[m.Method] = max(x.times[m.Method], time.Since(begun))
	return res, err
}

// shown is what an agent shows of a server.
type shown struct {
	Tools     []*mcp.Tool
	Prompts   []*mcp.Prompt
	Resources []*mcp.Resource
	Templates []*mcp.ResourceTemplate
}

// agentOf is an agent of the official SDK, and how long it waits.
type agentOf struct {
	*mcp.ClientSession
	*timed
	seen shown
}

func connectTimed(t *testing.T, origin, upstream string) *agentOf {
	t.Helper()
	x := &timed{base: harness.HTTPClient.Transport, times: map[string]time.Duration{}}
	// Without roots: of a process that has been told them before it gives its list, nothing is learned.
	options := &mcp.ClientOptions{Capabilities: &mcp.ClientCapabilities{}}
	client := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, options)
	transport := &mcp.StreamableClientTransport{Endpoint: origin + "/mcp/" + upstream, HTTPClient: &http.Client{Transport: x}}
	session, err := client.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatalf("%s: %v", upstream, err)
	}
	t.Cleanup(func() { _ = session.Close() }) // the daemon may have ended
	return &agentOf{ClientSession: session, timed: x}
}

// show asks for all lists that the server says it has.
func (a *agentOf) show(t *testing.T) (s shown) {
	t.Helper()
	has := a.InitializeResult().Capabilities
	var errs []error
	if has.Tools != nil {
		res, err := a.ListTools(t.Context(), nil)
		if errs = append(errs, err); err == nil {
			s.Tools = res.Tools
		}
	}
	if has.Prompts != nil {
		res, err := a.ListPrompts(t.Context(), nil)
		if errs = append(errs, err); err == nil {
			s.Prompts = res.Prompts
		}
	}
	if has.Resources != nil {
		res, err := a.ListResources(t.Context(), nil)
		templates, err2 := a.ListResourceTemplates(t.Context(), nil)
		if errs = append(errs, err, err2); err == nil && err2 == nil {
			s.Resources, s.Templates = res.Resources, templates.ResourceTemplates
		}
	}
	for _, err := range errs {
		if err != nil {
			t.Errorf("a list: %v", err)
		}
	}
	return s
}

func (s shown) String() string { return string(harness.RawJSON(s)) }

// npmEntries are the four servers of npm, whose lists are asked for whether the cache has them or not, and a call of each.
func npmEntries(t *testing.T) (upstreams map[string]string, calls map[string]*mcp.CallToolParams) {
	upstreams, calls = map[string]string{}, map[string]*mcp.CallToolParams{
		"npm-filesystem":          {Name: "list_allowed_directories", Arguments: values{}},
		"npm-memory":              {Name: "read_graph", Arguments: values{}},
		"npm-sequential-thinking": {Name: "sequentialthinking", Arguments: values{"thought": "first", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1}},
		"npm-everything":          {Name: "echo", Arguments: values{"message": "hello"}},
	}
	dir := t.TempDir() + "/"
	for _, c := range casts() {
		if name := strings.ReplaceAll(c.name, " ", "-"); c.npm {
			var command []string
			for _, word := range c.command {
				command = append(command, fmt.Sprintf("%q", strings.ReplaceAll(word, folder, dir)))
			}
			upstreams[name] = fmt.Sprintf("{command: [%s], env: {MEMORY_FILE_PATH: %q}, cache: {scope: session}}", strings.Join(command, ", "), dir+"memory.jsonl")
		}
	}
	return upstreams, calls
}

// TestRememberedServers: ten agents that show what npm's four servers have need no process, neither in the daemon that has seen two
// sessions nor in the next one, and a call has one that has what was shown. It prints how long they wait.
func TestRememberedServers(t *testing.T) {
	upstreams, calls := npmEntries(t)
	at := harness.NewFolders(t)
	config := harness.Config{Upstreams: upstreams, Plain: true, Args: []string{"--log-level", "warn"}}.In(at)
	d := harness.Start(t, config)
	var learning sync.WaitGroup
	for name := range upstreams {
		learning.Go(func() {
			for n := range 2 {
				a := connectTimed(t, d.URL(""), name)
				a.show(t)
				t.Logf("%s, session %d: initialize %v, tools/list %v", name, n+1, longest([]*agentOf{a}, "initialize"), longest([]*agentOf{a}, "tools/list"))
				_ = a.Close() // which waits for the end of its streams
			}
		})
	}
	learning.Wait()
	for name := range upstreams {
		harness.Eventually(t, "no process of a session of "+name, func() bool {
			now, processes := ready(t, at, name)
			return now.Used == 0 && len(processes) <= 1
		})
	}
	for name, agents := range showToTen(t, d, at, "the same daemon", slices.Collect(maps.Keys(upstreams))) {
		first := agents[0].seen.String()
		if res, err := agents[0].CallTool(t.Context(), calls[name]); err != nil || res.IsError {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		if own := agents[0].show(t).String(); own != first {
			t.Errorf("%s: the agent was shown\n%s\nand its process has\n%s", name, first, own)
		}
		for _, a := range agents {
			_ = a.Close()
		}
	}
	d.Finish()
	showToTen(t, harness.Start(t, config), at, "the next daemon", slices.Collect(maps.Keys(upstreams)))
}

// showToTen has one agent, then ten at once show what each of the servers has, and checks that they needed no process.
func showToTen(t *testing.T, d *harness.Daemon, at harness.Folders, life string, upstreams []string) map[string][]*agentOf {
	t.Helper()
	for _, name := range upstreams {
		a := connectTimed(t, d.URL(""), name)
		a.show(t)
		t.Logf("%s, %s, one agent: initialize %v, tools/list %v", life, name, longest([]*agentOf{a}, "initialize"), longest([]*agentOf{a}, "tools/list"))
		_ = a.Close()
	}
	before := d.Scrape()
	agents := map[string][]*agentOf{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, name := range upstreams {
		for range 10 {
			wg.Go(func() {
				a := connectTimed(t, d.URL(""), name)
				a.seen = a.show(t)
				mu.Lock()
				defer mu.Unlock()
				agents[name] = append(agents[name], a)
			})
		}
	}
	if wg.Wait(); t.Failed() {
		t.FailNow()
	}
	after := d.Scrape()
	for name, all := range agents {
		now, processes := ready(t, at, name)
		if now.Remembered != 10 || now.Used != 0 || len(slices.DeleteFunc(processes, func(p api.Process) bool { return p.State == "ending" })) > 1 {
			t.Errorf("%s, %s: %+v, %+v", life, name, now, processes)
		}
		labels := []string{fmt.Sprintf("upstream=%q", name), `kind="remembered"`}
		const count = "fluentd_perf_process_start_seconds_count"
		if n := after.Sum(count, labels...) - before.Sum(count, labels...); n != 10 {
			t.Errorf("%s, %s: %v sessions were opened from memory", life, name, n)
		}
		t.Logf("%s, %s, ten agents at once: initialize %v, tools/list %v", life, name, longest(all, "initialize"), longest(all, "tools/list"))
		for _, a := range all {
			if got, want := a.seen.String(), all[0].seen.String(); got != want {
				t.Errorf("%s, %s: two agents have\n%s\n%s", life, name, got, want)
			}
		}
	}
	return agents
}

func longest(agents []*agentOf, method string) (d time.Duration) {
	for _, a := range agents {
		d = max(d, a.times[method])
	}
	return d.Round(100 * time.Microsecond)
}

// plainList asks for the tools and for nothing else.
const plainList = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`

// slowServer is a server in sh, which starts at once, and answers initialize after a minute where there is a file of the name slow.
const slowServer = `
while read -r line; do
	id=${line#*\"id\":}
	id=${id%%[,\}]*}
	case $line in
	*'"server/discover"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"no"}}' ;;
	*'"initialize"'*)
		if [ -f slow ]; then sleep 60; fi
		echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"'$1'","version":"1"}}}' ;;
	*'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[{"name":"'$1'","inputSchema":{"type":"object"}}]}}' ;;
	esac
done
`

// TestFortySlowServers: ten agents show forty servers that are remembered and need a minute to start, and wait for none.
func TestFortySlowServers(t *testing.T) {
	const servers, agents = 40, 10
	dir, at := t.TempDir(), harness.NewFolders(t)
	script := harness.WriteFile(t, "server.sh", slowServer)
	config := harness.Config{Upstreams: map[string]string{}, Plain: true, Args: []string{"--log-level", "warn"}, Top: "drain: 1s"}
	for n := range servers {
		config.Upstreams[fmt.Sprint("s", n)] = fmt.Sprintf("{command: [sh, %q, s%d], cwd: %q, cache: {scope: session}}", script, n, dir)
	}
	show := func(d *harness.Daemon, n int) {
		name := fmt.Sprint("s", n)
		s := begin(t, d.URL(""), name)
		if r := s.send(plainList); !strings.Contains(r.Body, `"name":"`+name+`"`) {
			t.Errorf("%s: %d %s", name, r.Status, r.Body)
		}
		s.Must(http.MethodDelete, s.path, "", "Mcp-Session-Id: "+s.session, harness.LegacyVersionField)
	}
	d := harness.Start(t, config.In(at))
	for n := range servers {
		show(d, n)
		show(d, n)
	}
	d.Finish()
	if err := os.WriteFile(filepath.Join(dir, "slow"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d = harness.Start(t, config.In(at))
	begun := time.Now()
	var wg sync.WaitGroup
	for range agents {
		wg.Go(func() {
			for n := range servers {
				show(d, n)
			}
		})
	}
	wg.Wait()
	t.Logf("ten agents had the lists of forty servers after %v", time.Since(begun)) // 5 s are promised
	starts := d.Scrape()
	if n := starts.Sum("fluentd_perf_process_start_seconds_count", `kind="remembered"`); n != servers*agents {
		t.Errorf("%v sessions were opened from memory, want %d", n, servers*agents)
	}
	if n := starts.Sum("fluentd_perf_process_start_seconds_count"); n != servers*agents {
		t.Errorf("%v sessions or processes were opened in all: some of them were waited for", n)
	}
}

// TestRememberedScript: a script that was edited, or that does not start any more, is never shown as it was.
func TestRememberedScript(t *testing.T) {
	dir, at := t.TempDir(), harness.NewFolders(t)
	script := filepath.Join(dir, "server.sh")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(slowServer)
	d := harness.Start(t, harness.Config{Upstreams: map[string]string{"s": fmt.Sprintf("{command: [sh, %q, one], cwd: %q, processes: {warm: 0}, cache: {scope: session}}", script, dir)}}.In(at))
	list := func() string {
		t.Helper()
		s := begin(t, d.URL(""), "s")
		return s.send(plainList).Body
	}
	for range 3 {
		if got := list(); !strings.Contains(got, `"name":"one"`) {
			t.Fatal(got)
		}
	}
	if now, _ := ready(t, at, "s"); now.Remembered != 1 || now.Used != 2 {
		t.Fatalf("%+v", now)
	}
	write(strings.ReplaceAll(slowServer, "$1", "two"))
	if got := list(); !strings.Contains(got, `"name":"two"`) {
		t.Errorf("after an edit: %s", got)
	}
	list()
	write("echo 'the token is missing' >&2; exit 3")
	if s, r := initialize(t, d.URL(""), "s"); s.session != "" || !strings.Contains(r.Body, "the token is missing") {
		t.Errorf("a script that ends at once: %s", r.Body)
	}
	if err := os.Remove(script); err != nil {
		t.Fatal(err)
	}
	if s, r := initialize(t, d.URL(""), "s"); s.session != "" {
		t.Errorf("no script: %s", r.Body)
	}
}
