// Official servers that are killed and started again on the same port.

package session

import (
	"path/filepath"
	"syscall"
	"testing"

	"fluentd-perf/e2e/harness"
)

// restartable is a real server that is killed and started again on the same port.
type restartable struct {
	t       *testing.T
	env     func(port string) []string
	command func(port string) []string
	port    string
	path    string
	now     *harness.Process
}

// restartableKind is a server and what there is on it.
type restartableKind struct {
	name      string
	start     func(t *testing.T) *restartable
	read      string // a resource
	watched   string // a resource whose changes come by themselves, or by the call `touch`
	touch     *harness.Call
	harmless  harness.Call
	asksAgent *harness.Call // a call that waits for the agent's answer to the server's request
	long      *harness.Call // a call that takes a minute, on a stream with event ids
	lost      string        // how it says that a session is not there
}

var restartables = []restartableKind{
	{
		name: "everything", start: restartableNPM, read: "demo://resource/dynamic/text/7", watched: "demo://resource/dynamic/text/1",
		touch:    &harness.Call{Tool: "toggle-subscriber-updates", Arguments: map[string]any{}},
		harmless: harness.Call{Tool: "echo", Arguments: map[string]any{"message": "grüße"}},
		long:     &harness.Call{Tool: "trigger-long-running-operation", Arguments: map[string]any{"duration": 60, "steps": 2}},
		lost:     "400 application/json",
	},
	{
		name: "go stateful", start: restartableGo, read: "test://static-text", watched: "test://watched-resource",
		harmless:  harness.Call{Tool: "test_simple_text", Arguments: map[string]any{}},
		asksAgent: &harness.Call{Tool: "test_sampling", Arguments: map[string]any{"prompt": "hello"}},
		lost:      "404 text/plain",
	},
}

func restartableNPM(t *testing.T) *restartable {
	return (&restartable{
		t: t, path: "/mcp",
		env: func(port string) []string { return []string{"PORT=" + port} },
		command: func(string) []string {
			return []string{
				harness.Node, "--require", filepath.Join(harness.NodeDir, "loopback.cjs"),
				harness.NPMServerScript("everything"), "streamableHttp",
			}
		},
	}).launch()
}

func restartableGo(t *testing.T) *restartable {
	return (&restartable{
		t: t, env: func(string) []string { return nil },
		command: func(port string) []string {
			return []string{filepath.Join(harness.CacheBin, "everything-server"), "-http", "127.0.0.1:" + port, "-stateless=false"}
		},
	}).launch()
}

// launch starts the server for the first time.
func (m *restartable) launch() *restartable {
	m.t.Helper()
	for range 5 {
		m.port = harness.FreePort(m.t)
		if m.tryStart() {
			return m
		}
	}
	m.t.Fatal("no start on five ports")
	return nil
}

func (m *restartable) tryStart() bool {
	args := m.command(m.port)
	m.now = harness.StartProcess(m.t, m.env(m.port), args[0], args[1:]...)
	return m.now.Accepts("127.0.0.1:" + m.port)
}

func (m *restartable) url() string { return "http://127.0.0.1:" + m.port + m.path }

// kill is kill -9.
func (m *restartable) kill() {
	m.t.Helper()
	m.now.Stop(m.t, syscall.SIGKILL)
}

// restart starts the server again where it was.
func (m *restartable) restart() {
	m.t.Helper()
	for range 5 { // a connection that was just accepted there may still hold the port for a moment
		if m.tryStart() {
			return
		}
	}
	m.t.Fatalf("no second start on port %s\n%s", m.port, m.now.Out)
}

// runBefore starts a daemon before a server. Heal is `sessions.heal`; "" leaves the default.
func (m *restartable) runBefore(heal string) *harness.Daemon {
	m.t.Helper()
	keys := ""
	if heal != "" {
		keys = "sessions: {heal: " + heal + "}"
	}
	return harness.Start(m.t, harness.OneUpstream(m.url(), keys))
}
