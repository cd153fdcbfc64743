package e2e

import (
	"path/filepath"
	"syscall"
	"testing"
)

// mortal is a real server that is killed and started again on the same port.
type mortal struct {
	t       *testing.T
	env     func(port string) []string
	command func(port string) []string
	port    string
	path    string
	now     *process
}

// mortalCast is a server and what there is on it.
type mortalCast struct {
	name      string
	start     func(t *testing.T) *mortal
	read      string // a resource
	watched   string // a resource whose changes come by themselves, or by the call `touch`
	touch     *call
	harmless  call
	asksAgent *call  // a call that waits for the agent's answer to the server's question
	long      *call  // a call that takes a minute, on a stream with event ids
	lost      string // how it says that a session is not there
}

var mortals = []mortalCast{
	{
		name: "everything", start: mortalNPM, read: "demo://resource/dynamic/text/7", watched: "demo://resource/dynamic/text/1",
		touch:    &call{"toggle-subscriber-updates", map[string]any{}},
		harmless: call{"echo", map[string]any{"message": "grüße"}},
		long:     &call{"trigger-long-running-operation", map[string]any{"duration": 60, "steps": 2}},
		lost:     "400 application/json",
	},
	{
		name: "go stateful", start: mortalGo, read: "test://static-text", watched: "test://watched-resource",
		harmless:  call{"test_simple_text", map[string]any{}},
		asksAgent: &call{"test_sampling", map[string]any{"prompt": "hello"}},
		lost:      "404 text/plain",
	},
}

func mortalNPM(t *testing.T) *mortal {
	return (&mortal{
		t: t, path: "/mcp",
		env: func(port string) []string { return []string{"PORT=" + port} },
		command: func(string) []string {
			return []string{
				node, "--require", filepath.Join(nodeDir, "loopback.cjs"),
				filepath.Join(nodeDir, "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), "streamableHttp",
			}
		},
	}).born()
}

func mortalGo(t *testing.T) *mortal {
	return (&mortal{
		t: t, env: func(string) []string { return nil },
		command: func(port string) []string {
			return []string{filepath.Join(cacheBin, "everything-server"), "-http", "127.0.0.1:" + port, "-stateless=false"}
		},
	}).born()
}

// born starts the server for the first time.
func (m *mortal) born() *mortal {
	m.t.Helper()
	for range 5 {
		m.port = freePort(m.t)
		if m.tryStart() {
			return m
		}
	}
	m.t.Fatal("no start on five ports")
	return nil
}

func (m *mortal) tryStart() bool {
	args := m.command(m.port)
	m.now = start(m.t, m.env(m.port), args[0], args[1:]...)
	return m.now.accepts("127.0.0.1:" + m.port)
}

func (m *mortal) url() string { return "http://127.0.0.1:" + m.port + m.path }

// kill is kill -9.
func (m *mortal) kill() {
	m.t.Helper()
	m.now.stop(m.t, syscall.SIGKILL)
}

// revive starts the server again where it was.
func (m *mortal) revive() {
	m.t.Helper()
	for range 5 { // a connection that was just accepted there may still hold the port for a moment
		if m.tryStart() {
			return
		}
	}
	m.t.Fatalf("no second start on port %s\n%s", m.port, m.now.out)
}

// runBefore starts a daemon before a server. Heal is `sessions.heal`; "" leaves the default.
func (m *mortal) runBefore(heal string) *sidecar {
	m.t.Helper()
	keys := ""
	if heal != "" {
		keys = "sessions: {heal: " + heal + "}"
	}
	return runSidecar(m.t, one(m.url(), keys))
}
