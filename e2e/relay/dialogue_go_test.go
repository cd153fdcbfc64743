// The official Go client sees the same directly and through the daemon, with every server, with and without the cache.

//lint:file-ignore SA1019 Sampling and logging are deprecated in the newest protocol; the older ones are relayed as well.

package relay

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

// goCast is a server to play with and what its tools are called there.
type goCast struct {
	name    string
	start   harness.Server
	old     bool   // HTTP+SSE
	version string // what the Go client asks for; "" is its newest
	npm     bool   // asks for roots at a time of its own, and answers a call of an unknown tool by a result

	simple, progress, sampling, elicitation, change, touch, logs harness.Call
	answer                                                       map[string]any // to an elicitation
	changes                                                      int            // how often the server says after the handshake that its tools have changed
	changed                                                      string         // what `change` sets off; "" where nothing can tell
	watched                                                      string         // a resource whose changes `touch`, or time, brings about
	prompt, resource                                             string
	completion                                                   mcp.CompleteParams
}

var npmCast = goCast{
	name: "everything", start: harness.NPMServer("streamableHttp"), npm: true,
	simple:      harness.Call{Tool: "echo", Arguments: map[string]any{"message": "grüße"}},
	progress:    harness.Call{Tool: "trigger-long-running-operation", Arguments: map[string]any{"duration": 0.3, "steps": 3}},
	sampling:    harness.Call{Tool: "trigger-sampling-request", Arguments: map[string]any{"prompt": "hello", "maxTokens": 7}},
	elicitation: harness.Call{Tool: "trigger-elicitation-request", Arguments: map[string]any{}},
	answer:      map[string]any{"name": "Ada", "check": true},
	change: harness.Call{Tool: "gzip-file-as-resource", Arguments: map[string]any{
		"name": "go.txt.gz", "data": "data:text/plain,hello", "outputType": "resourceLink",
	}},
	changes: 3, // one each for the client's capabilities
	changed: "notifications/resources/list_changed",
	touch:   harness.Call{Tool: "toggle-subscriber-updates", Arguments: map[string]any{}},
	watched: "demo://resource/dynamic/text/1", prompt: "simple-prompt", resource: "demo://resource/dynamic/blob/1",
	completion: completion("completable-prompt", "department", "E"),
}

var goSDKCast = goCast{
	name: "go stateful", start: harness.GoStateful,
	simple:      harness.Call{Tool: "test_simple_text", Arguments: nil},
	progress:    harness.Call{Tool: "test_tool_with_progress", Arguments: nil},
	sampling:    harness.Call{Tool: "test_sampling", Arguments: map[string]any{"prompt": "hello"}},
	elicitation: harness.Call{Tool: "test_elicitation", Arguments: map[string]any{"message": "who?"}},
	answer:      map[string]any{"username": "ada"},
	change:      harness.Call{Tool: "test_trigger_tool_change", Arguments: nil},
	logs:        harness.Call{Tool: "test_tool_with_logging", Arguments: nil},
	changed:     "notifications/tools/list_changed",
	watched:     "test://watched-resource", prompt: "test_simple_prompt", resource: "test://static-binary",
	completion: completion("test_prompt_with_arguments", "arg1", "te"),
}

func completion(prompt, argument, value string) mcp.CompleteParams {
	return mcp.CompleteParams{
		Ref:      &mcp.CompleteReference{Type: "ref/prompt", Name: prompt},
		Argument: mcp.CompleteParamsArgument{Name: argument, Value: value},
	}
}

// goCasts are all servers that the Go client plays with.
func goCasts() []goCast {
	modern := goSDKCast
	modern.name, modern.start = "go stateless", harness.GoStateless
	modern.sampling = harness.Call{Tool: "test_input_required_result_sampling", Arguments: nil}
	modern.elicitation = harness.Call{Tool: "test_input_required_result_elicitation", Arguments: nil}
	modern.answer = map[string]any{"name": "Ada"}

	legacy := goSDKCast
	legacy.name, legacy.start, legacy.version = "go stateless, legacy", harness.GoStateless, "2025-11-25"
	legacy.changed, legacy.watched = "", "" // no back channel

	stateful := goSDKCast
	stateful.version = "2025-06-18"

	old := npmCast
	old.name, old.start, old.old = "everything, sse", harness.NPMServer("sse"), true
	return []goCast{npmCast, goSDKCast, stateful, modern, legacy, old}
}

// TestGoClient plays the same scenarios with the Go SDK's client and every server.
func TestGoClient(t *testing.T) {
	casts := goCasts()
	dialogues := map[string]*cacheDialogue{}
	for _, cast := range casts {
		switch cast.name {
		case "everything, sse": // what comes by another stream than its call is not cached
		case "go stateless":
			dialogues[cast.title()] = &cacheDialogue{start: cast.start, ways: cacheWays}
		default: // a legacy server says nothing of caching
			dialogues[cast.title()] = &cacheDialogue{start: cast.start, ways: cacheWays[:2]}
		}
	}
	startAll(t, slices.Collect(maps.Values(dialogues)))
	for _, cast := range casts {
		t.Run(cast.title(), func(t *testing.T) {
			t.Parallel()
			if cast.old {
				direct, through := cast.start(t), throughOld(t, cast.start(t))
				harness.ComparePlays(t, cast.play(t, direct, goScenarios), cast.play(t, through, goScenarios))
				return
			}
			d := dialogues[cast.title()]
			direct := cast.play(t, d.direct, goScenarios)
			for i, w := range d.ways {
				t.Run(w.name, func(t *testing.T) { w.compare(t, direct, cast.play(t, d.through[i], goScenarios), "") })
			}
		})
	}
}

func (c goCast) title() string { return strings.TrimSpace(c.name + " " + c.version) }

func (c goCast) play(t *testing.T, url string, scenarios []goScenario) *harness.Play {
	t.Helper()
	whole := harness.NewPlay(url)
	for _, scenario := range scenarios {
		p := &goPlay{t: t, cast: c, url: url, scenario: scenario.name}
		scenario.run(p)
		p.end()
		for _, l := range p.lines {
			whole.Add(l)
		}
	}
	return whole
}

// goPlay is one scenario being played: what Play is in dialogue.mjs.
type goPlay struct {
	t        *testing.T
	cast     goCast
	url      string
	scenario string
	agents   []*goAgent
	lines    []harness.Line
}

// goAgent is the Go SDK's client with everything that it receives written down.
type goAgent struct {
	*mcp.ClientSession
	play     *goPlay
	recorder *harness.Recorder
	elicit   func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error)
	progress func()
}

// connect connects one more agent, or reports a fault and returns nil.
func (p *goPlay) connect() *goAgent {
	a := &goAgent{play: p, recorder: harness.NewRecorder(p.t), progress: func() {}}
	a.elicit = func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
		return &mcp.ElicitResult{Action: "accept", Content: p.cast.answer}, nil
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1"}, a.options())
	var transport mcp.Transport = &mcp.StreamableClientTransport{Endpoint: p.url, HTTPClient: &http.Client{Transport: a.recorder}}
	if p.cast.old {
		transport = &mcp.SSEClientTransport{Endpoint: p.url, HTTPClient: &http.Client{Transport: a.recorder}}
	}
	session, err := client.Connect(p.t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: p.cast.version})
	if err != nil {
		p.fault("connect: %v", err)
		return nil
	}
	a.ClientSession = session
	p.agents = append(p.agents, a)
	if session.ID() != "" {
		p.check(a.recorder.Exchanged(p.t.Context(), "GET"))
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), harness.MaxWait)
	defer cancel()
	p.check(a.recorder.ExpectN(ctx, "notifications/tools/list_changed", p.cast.changes)) // or they are received in the step that happens to run
	return a
}

func (a *goAgent) options() *mcp.ClientOptions {
	options := &mcp.ClientOptions{
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			text := fmt.Sprintf("%d tokens at most", r.Params.MaxTokens)
			return &mcp.CreateMessageResult{Model: "stub", Role: "assistant", Content: &mcp.TextContent{Text: text}}, nil
		},
		ElicitationHandler: func(ctx context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) { return a.elicit(ctx, r) },
		ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) {
			a.progress()
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) {},
		ResourceUpdatedHandler: func(context.Context, *mcp.ResourceUpdatedNotificationRequest) {},
		LoggingMessageHandler:  func(context.Context, *mcp.LoggingMessageRequest) {},
	}
	if a.play.cast.npm {
		options.Capabilities = &mcp.ClientCapabilities{}
	}
	return options
}

// modern reports whether the session speaks 2026-07-28.
func (a *goAgent) modern() bool { return a.InitializeResult().ProtocolVersion >= "2026-07-28" }

// step runs one step and writes down its outcome with all that the agent received meanwhile.
func (a *goAgent) step(name string, run func(context.Context) error) { a.record(name, false, run) }

// fails is step for one that must end in an error.
func (a *goAgent) fails(name string, run func(context.Context) error) { a.record(name, true, run) }

func (a *goAgent) record(name string, fails bool, run func(context.Context) error) {
	ctx, cancel := context.WithTimeout(a.play.t.Context(), harness.MaxWait)
	defer cancel()
	err := run(ctx)
	outcome := "ok"
	if err != nil {
		outcome = err.Error()
	}
	if (err != nil) != fails {
		a.play.fault("%s: %s", name, outcome)
	}
	a.play.lines = append(a.play.lines, harness.Line{
		Scenario: a.play.scenario, Step: name, Outcome: harness.RawJSON(outcome), Received: a.recorder.Take(),
	})
}

// tool calls a tool; the result is in the transcript as it came over the wire.
func (a *goAgent) tool(ctx context.Context, c harness.Call) error {
	_, err := a.CallTool(ctx, &mcp.CallToolParams{Name: c.Tool, Arguments: c.Arguments})
	return err
}

func (a *goAgent) toolWithProgress(ctx context.Context, c harness.Call) error {
	params := &mcp.CallToolParams{Name: c.Tool, Arguments: c.Arguments}
	params.SetProgressToken("token of " + a.play.scenario)
	_, err := a.CallTool(ctx, params)
	return err
}

func (p *goPlay) note(name string, value any) {
	p.lines = append(p.lines, harness.Line{Scenario: p.scenario, Step: name, Outcome: harness.RawJSON(value)})
}

func (p *goPlay) check(err error) {
	if err != nil {
		p.fault("%v", err)
	}
}

func (p *goPlay) fault(format string, args ...any) {
	p.lines = append(p.lines, harness.Line{Scenario: p.scenario, Fault: fmt.Sprintf(format, args...)})
}

func (p *goPlay) end() {
	var exchanges []string
	for _, a := range p.agents {
		p.check(a.recorder.Settled(p.t.Context()))
		p.check(a.Close())
		_ = a.Wait()
		exchanges = append(exchanges, a.recorder.Exchanges()...)
		a.recorder.Base.CloseIdleConnections()
	}
	p.lines = append(p.lines, harness.Line{Scenario: p.scenario, HTTP: exchanges})
}
