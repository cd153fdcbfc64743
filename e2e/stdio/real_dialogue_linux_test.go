//lint:file-ignore SA1019 Logging is deprecated in the newest protocol; the older ones are played as well.

package stdio

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/errgroup"

	"fluentd-perf/e2e/harness"
)

// clients are the official ones: the Go SDK's as it comes, which asks for the newest version, and for a version with sessions, and the
// TypeScript ones of both generations, the second also where it negotiates. What differs least from others is played with E2E_FULL.
var clients = []string{"go", "go-2025-11-25", "ts1", "ts2", "ts2-auto"}

// pair is one server for one client: its two folders, of the direct play and of the one through the daemon.
type pair struct {
	cast
	client  string
	folders [2]string
}

// TestRealServers plays a dialogue with each server and each client over stdio, and the same through the daemon, which knows all
// servers by an agent's file.
func TestRealServers(t *testing.T) {
	var pairs []*pair
	for _, c := range casts() {
		for _, client := range clients {
			rare := c.rare || client == "ts2" || client == "go-2025-11-25" && c.npm
			if rare && os.Getenv("E2E_FULL") == "" {
				continue
			}
			p := &pair{cast: c, client: client, folders: [2]string{t.TempDir() + "/", t.TempDir() + "/"}}
			pairs = append(pairs, p)
		}
	}
	playAll(t, pairs)
}

// playAll plays all of them, through one daemon.
func playAll(t *testing.T, pairs []*pair) {
	t.Helper()
	entries := map[string]any{}
	for _, p := range pairs {
		entries[p.id()] = p.entry(1)
	}
	file := harness.WriteFile(t, "mcp.json", string(harness.RawJSON(map[string]any{"mcpServers": entries})))
	d := harness.Start(t, harness.Config{Args: []string{"--mcp-json", file, "--log-level", "warn"}, Steady: true})
	playClients(t, pairs, d)
}

// playClients plays all of them, those of a client together.
func playClients(t *testing.T, pairs []*pair, d *harness.Daemon) {
	t.Helper()
	for _, client := range clients {
		ofClient := slices.DeleteFunc(slices.Clone(pairs), func(p *pair) bool { return p.client != client })
		t.Run(client, func(t *testing.T) {
			var plays map[*pair]*harness.Play
			if !strings.HasPrefix(client, "go") {
				plays = playTypeScript(t, ofClient, d)
			}
			for _, p := range ofClient {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					through := plays[p]
					if through == nil {
						if p.directly() == nil {
							p.keep(p.playGo(t, 0, ""))
						}
						through = p.playGo(t, 1, p.through(d))
					}
					harness.ComparePlays(t, p.directly(), p.steady(1, through))
				})
			}
		})
	}
}

// through is its address at the daemon.
func (p *pair) through(d *harness.Daemon) string { return d.URL("/mcp/" + p.id()) }

func (p *pair) id() string { return strings.ReplaceAll(p.name, " ", "-") + "-" + p.client }

// in writes a text for one of the two plays.
func (p *pair) in(way int, text string) string {
	return strings.ReplaceAll(text, folder, p.folders[way])
}

// entry is the server as in an agent's file.
func (p *pair) entry(way int) map[string]any {
	env := map[string]string{}
	maps.Copy(env, p.env)
	for name := range env {
		env[name] = p.in(way, env[name])
	}
	var arguments []string
	for _, argument := range p.command[1:] {
		arguments = append(arguments, p.in(way, argument))
	}
	entry := map[string]any{"command": p.command[0], "args": slices.Concat([]string{}, arguments), "env": env}
	if p.Changes > 0 { // the dialogue waits for what it says before it is asked for anything: a session from memory has no process by then
		entry["fluentd-perf"] = values{"processes": values{"lazy": false}}
	}
	if p.Bare { // with one process for all nothing is from memory
		entry["fluentd-perf"] = values{"sessions": "shared"}
	}
	return entry
}

// direct holds the direct plays by pair.part. Each is made once, however many tests compare with it.
var (
	directMu sync.Mutex
	direct   = map[string]*harness.Play{}
)

// part is what is played, to the last step: the same client may have fewer capabilities in another test.
func (p *pair) part() string { return p.id() + string(harness.RawJSON(p.cast)) }

// directly is the direct play, nil before keep.
func (p *pair) directly() *harness.Play {
	directMu.Lock()
	defer directMu.Unlock()
	return direct[p.part()]
}

// keep keeps the direct play.
func (p *pair) keep(play *harness.Play) {
	directMu.Lock()
	defer directMu.Unlock()
	direct[p.part()] = p.steady(0, play)
}

// steady replaces what differs between the two plays of any server.
func (p *pair) steady(way int, play *harness.Play) *harness.Play {
	play.Replace(regexp.MustCompile(regexp.QuoteMeta(strings.TrimSuffix(p.folders[way], "/"))+"/?"), folder)
	if p.tells {
		play.Replace(tokenTold, `"text":"<token>"`)
	}
	return play
}

// tokenTold is a progress token in an answer.
var tokenTold = regexp.MustCompile(`"text":"(\d+|\d\.\d+e\+\d+|token of test_tool_with_progress)"`)

// playTypeScript plays all of one client through the daemon, and directly what was not yet, in one process of Node: to load the SDK is
// most of what a process does.
func playTypeScript(t *testing.T, pairs []*pair, d *harness.Daemon) map[*pair]*harness.Play {
	t.Helper()
	through := map[*pair]*harness.Play{}
	if len(pairs) == 0 {
		return through
	}
	var urls []string
	var done []func(*harness.Play) // what becomes of each play
	casts := map[string]json.RawMessage{}
	add := func(p *pair, way int, address string, played func(*harness.Play)) {
		urls, done = append(urls, address), append(done, played)
		casts[address] = json.RawMessage(p.in(way, string(harness.RawJSON(p.cast))))
	}
	for _, p := range pairs {
		if p.directly() == nil {
			address := "stdio:" + url.PathEscape(string(harness.RawJSON(p.entry(0))))
			add(p, 0, strings.ReplaceAll(address, ",", "%2C"), p.keep) // a comma divides addresses there
		}
		add(p, 1, p.through(d), func(play *harness.Play) { through[p] = play })
	}
	env := []string{"E2E_CASTS=" + string(harness.RawJSON(casts)), "E2E_AT_ONCE=4"}
	printed := harness.RunNodeWith(t, env, harness.Script("dialogue"), pairs[0].client, "stdio", strings.Join(urls, ","))
	for i, play := range harness.ParsePlays(t, printed, urls...) {
		done[i](play)
	}
	return through
}

// goAgent is the Go SDK's client in a dialogue.
type goAgent struct {
	*mcp.ClientSession
	recorder *harness.Recorder
	play     *harness.Play
	scenario string
	server   *exec.Cmd // over stdio
}

func (p *pair) playGo(t *testing.T, way int, through string) *harness.Play {
	t.Helper()
	play := harness.NewPlay(through)
	var steps cast
	if err := json.Unmarshal([]byte(p.in(way, string(harness.RawJSON(p.cast)))), &steps); err != nil {
		t.Fatal(err)
	}
	a := p.connect(t, way, through, play, "dialogue")
	a.dialogue(t, steps.Steps)
	a.end(t)
	agents := []*goAgent{p.connect(t, way, through, play, "two agents"), p.connect(t, way, through, play, "two agents")}
	for _, a := range agents {
		a.askAgain(t, steps)
	}
	for _, a := range agents {
		play.Add(harness.Line{Scenario: a.scenario, Step: "received", Received: a.take()})
		a.end(t)
	}
	return play
}

// connect connects an agent, and forgets its handshake and what the server tells right after it, which comes at a time of its own: a server/discover that was refused is a message over stdio, and a status over
// HTTP.
func (p *pair) connect(t *testing.T, way int, through string, play *harness.Play, scenario string) *goAgent {
	t.Helper()
	a := &goAgent{recorder: harness.NewRecorder(t), play: play, scenario: scenario}
	var transport mcp.Transport = &mcp.StreamableClientTransport{Endpoint: through, HTTPClient: &http.Client{Transport: a.recorder}}
	if through == "" {
		transport = a.start(t, p.entry(way))
	}
	version := strings.TrimPrefix(strings.TrimPrefix(p.client, "go"), "-")
	session, err := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1"}, p.options()).
		Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatalf("%s: %v", cmp.Or(through, "directly"), err)
	}
	a.ClientSession = session
	if session.ID() != "" {
		if err := a.recorder.Exchanged(t.Context(), "GET"); err != nil {
			t.Fatal(err)
		}
	}
	changes := p.Changes
	if p.Bare && through != "" && scenario != "dialogue" { // one process says that once: to the first of the sessions that share it
		changes = 0
	}
	if err := a.recorder.ExpectN(t.Context(), "notifications/tools/list_changed", changes); err != nil {
		t.Fatalf("%s: %v", cmp.Or(through, "directly"), err)
	}
	a.recorder.Take()
	return a
}

// start starts a server whose stdout is recorded.
func (a *goAgent) start(t *testing.T, entry map[string]any) mcp.Transport {
	t.Helper()
	a.server = exec.Command(entry["command"].(string), entry["args"].([]string)...)
	a.server.SysProcAttr = harness.ChildAttributes()
	a.server.Env = os.Environ()
	for name, value := range entry["env"].(map[string]string) {
		a.server.Env = append(a.server.Env, name+"="+value)
	}
	in, err := a.server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.server.Start(); err != nil {
		t.Fatal(err)
	}
	return &mcp.IOTransport{Reader: a.recorder.Lines(out), Writer: in}
}

// end closes the session, and waits for a server of its own.
func (a *goAgent) end(t *testing.T) {
	t.Helper()
	_ = a.Close()
	if a.server != nil {
		_ = a.server.Wait() // some servers end with an error at the end of stdin
	}
}

func (p *pair) options() *mcp.ClientOptions {
	if p.Bare {
		return &mcp.ClientOptions{
			Capabilities: &mcp.ClientCapabilities{}, LoggingMessageHandler: func(context.Context, *mcp.LoggingMessageRequest) {},
		}
	}
	options := &mcp.ClientOptions{
		CreateMessageHandler: func(context.Context, *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Model: "stub", Role: "assistant", Content: &mcp.TextContent{Text: "stubbed"}}, nil
		},
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{}}, nil
		},
		LoggingMessageHandler: func(context.Context, *mcp.LoggingMessageRequest) {},
	}
	if p.npm {
		options.Capabilities = &mcp.ClientCapabilities{} // without roots
	}
	return options
}

// askAgain asks one thing ten times, at once unless the order counts.
func (a *goAgent) askAgain(t *testing.T, c cast) {
	t.Helper()
	s := c.Steps[c.Same]
	var all errgroup.Group
	if c.Row {
		all.SetLimit(1)
	}
	for range 10 {
		all.Go(func() error { return a.ask(t.Context(), s) })
	}
	if err := all.Wait(); err != nil && !s.Either {
		t.Error(err)
	}
}

// take returns what was received. Pings are left out: the daemon itself answers what a server asks to see whether there is somebody.
func (a *goAgent) take() []harness.Group {
	return slices.DeleteFunc(a.recorder.Take(), func(g harness.Group) bool { return string(g[0]) == `"ping"` })
}

func (a *goAgent) dialogue(t *testing.T, steps []step) {
	t.Helper()
	server := a.InitializeResult()
	modern := server.ProtocolVersion >= "2026-07-28"
	a.play.Add(harness.Line{Scenario: a.scenario, Step: "server", Outcome: harness.RawJSON(server)})
	record := func(name string, either, fails bool, run func(context.Context) error) {
		ctx, cancel := context.WithTimeout(t.Context(), harness.MaxWait)
		defer cancel()
		outcome, err := "ok", run(ctx)
		if err != nil {
			outcome = err.Error()
		}
		if !either && (err != nil) != fails {
			a.play.Add(harness.Line{Scenario: a.scenario, Fault: name + ": " + outcome})
		}
		a.play.Add(harness.Line{Scenario: a.scenario, Step: name, Outcome: harness.RawJSON(outcome), Received: a.take()})
	}
	if !modern {
		record("ping", false, false, func(ctx context.Context) error { return a.Ping(ctx, nil) })
	}
	can := server.Capabilities
	if can.Tools != nil {
		record("tools", false, false, func(ctx context.Context) error { _, err := a.ListTools(ctx, nil); return err })
	}
	if can.Prompts != nil {
		record("prompts", false, false, func(ctx context.Context) error { _, err := a.ListPrompts(ctx, nil); return err })
	}
	if can.Resources != nil {
		record("resources", false, false, func(ctx context.Context) error { _, err := a.ListResources(ctx, nil); return err })
		record("templates", false, false, func(ctx context.Context) error { _, err := a.ListResourceTemplates(ctx, nil); return err })
	}
	if can.Logging != nil && !modern {
		record("level", false, false, func(ctx context.Context) error {
			return a.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "debug"})
		})
	}
	for i, s := range steps {
		if s.Method == "" && !(s.Legacy && modern) {
			record(fmt.Sprint("step ", i), s.Either, s.Fails, func(ctx context.Context) error { return a.ask(ctx, s) })
		}
	}
}

func (a *goAgent) ask(ctx context.Context, s step) (err error) {
	switch {
	case s.Tool != "":
		params := &mcp.CallToolParams{Name: s.Tool, Arguments: map[string]any{}}
		if s.Arguments != nil {
			params.Arguments = s.Arguments
		}
		params.SetProgressToken("token of " + s.Tool)
		_, err = a.CallTool(ctx, params)
	case s.Prompt != "":
		params := &mcp.GetPromptParams{Name: s.Prompt, Arguments: map[string]string{}}
		for name, value := range s.Arguments {
			params.Arguments[name] = value.(string)
		}
		_, err = a.GetPrompt(ctx, params)
	default:
		_, err = a.ReadResource(ctx, &mcp.ReadResourceParams{URI: s.Resource})
	}
	return err
}
