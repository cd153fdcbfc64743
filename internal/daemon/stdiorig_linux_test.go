package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
)

// childArgument is the first argument of the test binary where it is to be a stdio server, and the second says which.
const childArgument = "stdio-server"

// runChild is the server that the arguments name, if they name one, and does not return then.
func runChild() {
	if len(os.Args) < 3 || os.Args[1] != childArgument {
		return
	}
	switch os.Args[2] {
	case "both":
		countingServer(false)
	case "legacy":
		countingServer(true)
	case "slow":
		for {
			if _, err := os.Stat(os.Getenv("RELEASE")); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		countingServer(true)
	case "refuses":
		fmt.Fprintln(os.Stderr, "cannot find the configuration, token is", os.Getenv("OWN_TOKEN"))
		syscall.Exit(3)
	}
	syscall.Exit(0) // at once: os.Exit takes a second under the race detector
}

// countingServer is a server of the official SDK, with state: how often it was called. The SDK speaks both eras; a legacy one refuses
// server/discover as older servers do.
func countingServer(legacy bool) {
	server := sdk.NewServer(&sdk.Implementation{Name: "counting", Version: "1"}, nil)
	var calls atomic.Int64
	sdk.AddTool(server, &sdk.Tool{Name: "count"}, func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
		text := fmt.Sprint(os.Getpid(), " ", calls.Add(1))
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "wait"}, func(ctx context.Context, _ *sdk.CallToolRequest, in waitIn) (*sdk.CallToolResult, any, error) {
		for ctx.Err() == nil { // until a file is there
			if _, err := os.Stat(in.File); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "waited"}}}, nil, nil
	})
	sdk.AddTool(server, &sdk.Tool{Name: "noise"}, func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
		for i := range 50 {
			fmt.Fprintln(os.Stderr, "line", i)
		}
		fmt.Println("a banner")
		return &sdk.CallToolResult{Content: []sdk.Content{}}, nil, nil
	})
	if legacy {
		server.AddReceivingMiddleware(func(next sdk.MethodHandler) sdk.MethodHandler {
			return func(ctx context.Context, method string, r sdk.Request) (sdk.Result, error) {
				if method == "server/discover" {
					return nil, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "no such method"}
				}
				return next(ctx, method, r)
			}
		})
	}
	if err := server.Run(context.Background(), &sdk.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

type waitIn struct {
	File string `json:"file"`
}

// stdioEntry is an entry of the configuration for the test binary as a server.
func stdioEntry(t *testing.T, mode string) *config.Stdio {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &config.Stdio{
		Command: []string{binary, childArgument, mode}, Cwd: t.TempDir(),
		Processes: config.Processes{Max: 16, Replicas: 1, IdleTimeout: 10 * time.Minute},
	}
}

// stdioConfig is a configuration of stdio servers, with the defaults of others.
func stdioConfig(t *testing.T, entries map[string]*config.Stdio) *config.Config {
	t.Helper()
	s := config.Sources{Listen: []string{"127.0.0.1:0"}}
	for name := range entries {
		s.Upstreams = append(s.Upstreams, name+"=http://127.0.0.1:1/mcp")
	}
	cfg, _, err := config.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	for i := range cfg.Upstreams {
		u := &cfg.Upstreams[i]
		u.Stdio, u.URL, u.URLs = entries[u.Name], nil, nil
	}
	cfg.Processes = config.AllProcesses{
		Total: 64, StartConcurrency: 2, StartTimeout: 5 * time.Minute, Path: config.SearchPath{Source: config.PathInherit},
	}
	return cfg
}

// stdioRig is a daemon in this process.
type stdioRig struct {
	t    *testing.T
	d    *daemon
	addr string
	by   string // the Authorization of what post sends; "": none
	stop func() // drains it; more calls do nothing
}

func newStdioRig(t *testing.T, o Options) *stdioRig {
	t.Helper()
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.LoginLimit = time.Minute // a machine may be slow
	d, err := assemble(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	d.start()
	r := &stdioRig{t: t, d: d, addr: d.addresses()[0]}
	r.stop = sync.OnceFunc(func() {
		if err := d.drain(time.Minute); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// status is what the control socket says of an upstream.
func (r *stdioRig) status(upstream string) api.UpstreamStatus {
	r.t.Helper()
	s, err := r.d.status(r.t.Context(), api.StatusParams{Processes: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Upstreams[slices.IndexFunc(s.Upstreams, func(u api.UpstreamStatus) bool { return u.Upstream == upstream })]
}

// killAll kills the processes of an upstream, of which there is one at least.
func (r *stdioRig) killAll(upstream string) {
	r.t.Helper()
	var all []api.Process
	within(r.t, 10*time.Second, "processes of "+upstream+" that have started", func() bool {
		all = r.status(upstream).Processes
		return len(all) > 0 && !slices.ContainsFunc(all, func(p api.Process) bool { return p.PID == 0 })
	})
	for _, p := range all {
		killProcess(r.t, p.PID)
	}
}

// killProcess kills one process. No id, and some negative number, would be that of the tests' own group, or of everybody's.
func killProcess(t *testing.T, pid int) {
	t.Helper()
	if pid < 2 {
		t.Fatalf("%d is not the id of a process", pid)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

const initializeRequest = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
	`"clientInfo":{"name":"agent","version":"1"}}}`

func callOf(tool, arguments string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":%q,"arguments":%s}}`, tool, arguments)
}

// postTo sends a body, and returns the answer.
func (r *stdioRig) postTo(path, body string) string {
	r.t.Helper()
	resp, err := http.Post("http://"+r.addr+path, "application/json", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Error(err)
	}
	return string(all)
}

// post sends one message, in a session where that has a name, and returns the answer and the session's name.
func (r *stdioRig) post(upstream, session, body string) (text, inSession string) {
	r.t.Helper()
	text, header := r.send(upstream, session, body)
	return text, header.Get("Mcp-Session-Id")
}

// send is post that returns the answer's header; nil where there was none.
func (r *stdioRig) send(upstream, session, body string) (text string, header http.Header) {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+r.addr+"/mcp/"+upstream, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if r.by != "" {
		req.Header.Set("Authorization", r.by)
	}
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
		req.Header.Set("MCP-Protocol-Version", "2025-11-25")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Error(err)
		return "", nil
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Error(err)
	}
	return string(all), resp.Header
}

// modern asks for the tools in the modern era, and returns the answer.
func (r *stdioRig) modern(upstream string) (status int, text string) {
	r.t.Helper()
	return r.modernPost(upstream, "tools/list", "")
}

// modernPost sends a request of the modern era, a tools/call with the tool's name, and returns the answer.
func (r *stdioRig) modernPost(upstream, method, tool string) (status int, text string) {
	r.t.Helper()
	named := ""
	if tool != "" {
		named = fmt.Sprintf(`"name":%q,`, tool)
	}
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`, method, named)
	req, err := http.NewRequest(http.MethodPost, "http://"+r.addr+"/mcp/"+upstream, strings.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return 0, ""
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method,
	} {
		req.Header.Set(name, value)
	}
	if tool != "" {
		req.Header.Set("Mcp-Name", tool)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Error(err)
	}
	return resp.StatusCode, string(all)
}

// connect is an agent of the official SDK.
func (r *stdioRig) connect(upstream string) *sdk.ClientSession {
	r.t.Helper()
	t := r.t
	client := sdk.NewClient(&sdk.Implementation{Name: "agent", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: "http://" + r.addr + "/mcp/" + upstream}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() }) // the daemon may have ended
	return session
}

// call calls a tool that fails nobody.
func call(t *testing.T, s *sdk.ClientSession, tool string, arguments any) (string, error) {
	t.Helper()
	res, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil || len(res.Content) == 0 {
		return "", err
	}
	return res.Content[0].(*sdk.TextContent).Text, nil
}

// count calls the counting server, and returns its process and how often that was called.
func count(t *testing.T, s *sdk.ClientSession) (pid, calls int) {
	t.Helper()
	text, err := call(t, s, "count", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(text, &pid, &calls); err != nil {
		t.Fatal(err)
	}
	return pid, calls
}

// failsWith returns the code of an error of a call, 0 where it is none of JSON-RPC.
func failsWith(err error) int64 {
	var e *jsonrpc.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// gone reports whether a process has ended. A zombie has not: its parent is to wait for it.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// within waits for something that is to be soon. A machine that is busy with other things has half a minute more.
func within(t *testing.T, most time.Duration, what string, done func() bool) {
	t.Helper()
	most += 30 * time.Second
	for end := time.Now().Add(most); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, most)
		}
	}
}
