package stdio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

// BenchmarkStory is what ten agents with npm's four servers take, each way in one run: processes, memory, and how long an agent waits from
// connecting to a server's first tool list. It prints a table. `make story` runs it.
func BenchmarkStory(b *testing.B) {
	if b.N > 1 {
		b.Skip("once is enough")
	}
	s := newStory(b)
	rows := []storyRow{
		s.direct(b, "`npx -y`, as written", s.npx),
		s.direct(b, "packages installed", s.installed),
		s.through(b, "cold", s.installed, "processes: {warm: 0, lazy: false}", 0),
		s.through(b, "resolved (from `npx -y`)", s.npx, "processes: {warm: 0, lazy: false}", 1),
		s.through(b, "spare", s.installed, fmt.Sprintf("processes: {warm: %d, max: 32, lazy: false}", storyAgents), 1),
		s.through(b, "remembered", s.npx, "processes: {warm: 1}", 3), // the first one installed the package
		s.through(b, "shared", s.npx, "sessions: shared", 1),
	}
	fmt.Println("| ten agents, four servers | processes | their PSS, MB | daemon and guard, MB | the same, quiet for 30 s | one agent: list after, ms | ten at once: median | longest |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Println(r)
	}
}

const storyAgents = 10

// storyQuiet is how long nothing happens before the daemon's size is looked at again: its sessions and their streams stay open.
const storyQuiet = 30 * time.Second

// story has the four servers' commands.
type story struct {
	installed, npx map[string][]string
	env            []string // where npm keeps packages
	memory         string   // server-memory's file
}

// storyRow is one way of having the servers. Sizes are PSS in bytes.
type storyRow struct {
	name          string
	processes     int
	size, ours    int64
	quiet         int64           // ours, storyQuiet later
	alone, atOnce []time.Duration // from connecting to the list, of each server and agent
}

func (r storyRow) String() string {
	ours, quiet := "-", "-"
	if r.ours > 0 {
		ours, quiet = fmt.Sprintf("%.0f", float64(r.ours)/1e6), fmt.Sprintf("%.0f", float64(r.quiet)/1e6)
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/1e6) }
	slices.Sort(r.alone)
	slices.Sort(r.atOnce)
	return fmt.Sprintf("| %s | %d | %.0f | %s | %s | %s | %s | %s |", r.name, r.processes, float64(r.size)/1e6, ours, quiet,
		ms(r.alone[len(r.alone)/2]), ms(r.atOnce[len(r.atOnce)/2]), ms(r.atOnce[len(r.atOnce)-1]))
}

func newStory(b *testing.B) *story {
	s := &story{installed: map[string][]string{}, npx: map[string][]string{}}
	dir := b.TempDir()
	s.env, s.memory = []string{"npm_config_cache=" + filepath.Join(dir, "npm")}, filepath.Join(dir, "memory.jsonl")
	for name, argument := range map[string]string{"filesystem": dir, "memory": "", "sequential-thinking": "", "everything": "stdio"} {
		arguments := slices.DeleteFunc([]string{argument}, func(a string) bool { return a == "" })
		at := filepath.Join(harness.NodeDir, "node_modules/@modelcontextprotocol/server-"+name)
		var manifest struct{ Version string }
		text, err := os.ReadFile(filepath.Join(at, "package.json"))
		if err := errors.Join(err, json.Unmarshal(text, &manifest)); err != nil {
			b.Fatal(err)
		}
		s.installed[name] = append([]string{harness.Node, filepath.Join(at, "dist/index.js")}, arguments...)
		s.npx[name] = append([]string{"npx", "-y", "@modelcontextprotocol/server-" + name + "@" + manifest.Version}, arguments...)
	}
	return s
}

// direct has each agent start the servers itself.
func (s *story) direct(b *testing.B, name string, commands map[string][]string) storyRow {
	dial := func(server string) mcp.Transport {
		cmd := exec.Command(commands[server][0], commands[server][1:]...)
		cmd.Env = append(os.Environ(), append(s.env, "MEMORY_FILE_PATH="+s.memory)...)
		return &mcp.CommandTransport{Command: cmd, TerminateDuration: time.Second}
	}
	s.visit(b, commands, dial) // npx installs what it runs
	r := storyRow{name: name, alone: s.visit(b, commands, dial)}
	r.atOnce = s.visitAll(b, commands, dial, func() { r.processes, r.size, _ = descendants(b, os.Getpid()) })
	return r
}

// through has the servers behind a daemon that has seen each of them so many times before.
func (s *story) through(b *testing.B, name string, commands map[string][]string, keys string, seen int) storyRow {
	upstreams := map[string]string{}
	for server, command := range commands {
		quoted := string(harness.RawJSON(command))
		upstreams[server] = fmt.Sprintf("{command: %s, env: {MEMORY_FILE_PATH: %q}, cache: {scope: session}, %s}", quoted, s.memory, keys)
	}
	at := harness.NewFolders(b)
	d := harness.Start(b, harness.Config{Upstreams: upstreams, Plain: true, Env: s.env, Args: []string{"--log-level", "error"}, Top: "processes: {total: 64, path: inherit}"}.In(at))
	dial := func(server string) mcp.Transport {
		return &mcp.StreamableClientTransport{Endpoint: d.URL("/mcp/" + server), HTTPClient: &http.Client{Transport: http.DefaultTransport}}
	}
	for range seen {
		s.visit(b, commands, dial)
		s.settle(b, at, keys)
	}
	r := storyRow{name: name, alone: s.visit(b, commands, dial)}
	s.settle(b, at, keys)
	r.atOnce = s.visitAll(b, commands, dial, func() {
		r.processes, r.size, r.ours = descendants(b, d.Cmd.Process.Pid)
		r.ours += sizeOf(d.Cmd.Process.Pid)
		<-time.After(storyQuiet)
		_, _, r.quiet = descendants(b, d.Cmd.Process.Pid)
		r.quiet += sizeOf(d.Cmd.Process.Pid)
	})
	d.Finish()
	return r
}

// settle waits until no session has a process, unless all share one, and until the spares are there.
func (s *story) settle(b *testing.B, at harness.Folders, keys string) {
	spares := 0
	if _, err := fmt.Sscanf(keys, "processes: {warm: %d", &spares); err != nil && !strings.Contains(keys, "shared") {
		b.Fatal(err)
	}
	for server := range s.installed {
		harness.Eventually(b, "the spares of "+server, func() bool {
			now, _ := ready(b, at, server)
			return now.Spare == spares && (now.Used == 0 || spares == 0)
		})
	}
}

// visit has one agent connect to each of the servers, show its tools and leave. It returns how long each list took.
func (s *story) visit(b *testing.B, commands map[string][]string, dial func(string) mcp.Transport) (took []time.Duration) {
	for _, server := range slices.Sorted(maps.Keys(commands)) {
		session, t := firstList(b, dial(server))
		took = append(took, t)
		_ = session.Close() // which says how the process ended
	}
	return took
}

// visitAll has all agents connect to all servers at once and show their tools, and calls look before they leave.
func (s *story) visitAll(b *testing.B, commands map[string][]string, dial func(string) mcp.Transport, look func()) (took []time.Duration) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var sessions []*mcp.ClientSession
	for server := range commands {
		for range storyAgents {
			wg.Go(func() {
				session, t := firstList(b, dial(server))
				mu.Lock()
				defer mu.Unlock()
				took, sessions = append(took, t), append(sessions, session)
			})
		}
	}
	wg.Wait()
	look()
	for _, session := range sessions {
		wg.Go(func() { _ = session.Close() })
	}
	wg.Wait()
	return took
}

// firstList connects and asks for the tools. The session is nil where that failed.
func firstList(b *testing.B, transport mcp.Transport) (*mcp.ClientSession, time.Duration) {
	options := &mcp.ClientOptions{Capabilities: &mcp.ClientCapabilities{}}
	client := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, options)
	begun := time.Now()
	session, err := client.Connect(b.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := session.ListTools(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	return session, time.Since(begun)
}

// descendants counts the processes that pid has started, and theirs, and sums up their PSS in bytes: a guard's on its own.
func descendants(b *testing.B, pid int) (n int, size, guards int64) {
	parents := map[int]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		_, after, _ := bytes.Cut(text, []byte(") "))
		var parent int
		if _, err := fmt.Sscanf(string(after), "%c %d", new(rune), &parent); err != nil {
			b.Fatal(err)
		}
		parents[id] = parent
	}
	for id := range parents {
		ancestor := parents[id]
		for ancestor > 1 && ancestor != pid {
			ancestor = parents[ancestor]
		}
		if ancestor != pid {
			continue
		}
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", id)); string(comm) == "fluentd-guard\n" {
			guards += sizeOf(id)
			continue
		}
		n, size = n+1, size+sizeOf(id)
	}
	return n, size, guards
}

// sizeOf returns a process's PSS in bytes, 0 where it has ended.
func sizeOf(pid int) (size int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	_, after, _ := bytes.Cut(text, []byte("\nPss:"))
	_, _ = fmt.Sscan(string(after), &size) // it stays 0
	return size << 10
}
