package loadgen_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

// asChild makes the test binary one of the children: servers that are commands.
const asChild = "LOADGEN_TEST_CHILD"

var children = map[string]func(){
	"lines": func() { _ = fastserver.New().ServeLines(os.Stdin, os.Stdout) }, // until stdin ends
	"talks": func() { // says what is no message, asks, tells, and answers only who has answered
		fmt.Println("listening on stdin")
		in := bufio.NewReader(os.Stdin)
		call, _ := in.ReadString('\n')
		fmt.Println(`{"jsonrpc":"2.0","id":"a","method":"ping"}` + "\r\n" + `{"jsonrpc":"2.0","id":7,"method":"roots/list"}`)
		pong, _ := in.ReadString('\n')
		refusal, _ := in.ReadString('\n')
		fmt.Println(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`)
		_, rest, _ := strings.Cut(call, `"id":`)
		id, _, _ := strings.Cut(rest, ",")
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[],"saw":[%s,%s],"long":"%s"}}`+"\n", id, strings.TrimSpace(pong), strings.TrimSpace(refusal), strings.Repeat("x", 1<<20))
		_, _ = io.Copy(io.Discard, in)
	},
	"dies": func() { // at the second message
		in := bufio.NewReader(os.Stdin)
		_, _ = in.ReadString('\n')
		fmt.Fprintln(os.Stderr, "no key for the service")
		os.Exit(3)
	},
	"stays": func() { // until it is killed, with one that it has started
		signal.Ignore(syscall.SIGTERM)
		child := exec.Command("sleep", "1000")
		if err := child.Start(); err != nil {
			panic(err)
		}
		if err := os.WriteFile(os.Args[1], fmt.Appendf(nil, "%d %d", os.Getpid(), child.Process.Pid), 0o600); err != nil {
			panic(err)
		}
		_ = fastserver.New().ServeLines(os.Stdin, os.Stdout)
		select {}
	},
}

// commandOf is the target that a child is.
func commandOf(name string, args ...string) *loadgen.Target {
	return loadgen.NewCommandTarget(loadgen.Command{Args: append([]string{"env", asChild + "=" + name, os.Args[0]}, args...)})
}

// TestCommand makes calls of each kind in each era to the scripted server as a command, a process for each client.
func TestCommand(t *testing.T) {
	kinds := map[string]loadgen.Kind{
		"small": toolCall(fastserver.Small), "huge": toolCall(fastserver.Huge), "progress": progressCall(fastserver.Progress), "list": listCall(),
		"session": {Name: "session", Session: true}, "over lines": loadgen.ToolCall(fastserver.Small, "{\n\"key\":\r\n\"0123456789\"}"),
	}
	for _, era := range []mcp.Era{mcp.EraModern, mcp.EraLegacy} {
		p := clientsOf(t, commandOf("lines").With(era)) // one process for all kinds but the session, which has its own
		for name, k := range kinds {
			tally, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 2}, loadgen.Only(k), nil)
			if err != nil || tally.Succeeded() != 2 {
				t.Errorf("%s, %v: %d succeeded, %v", name, era, tally.Succeeded(), err)
			}
		}
	}
	p := clientsOf(t, commandOf("lines"))
	if err := p.Open(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	tally, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, Requests: 20}, loadgen.Only(toolCall(fastserver.Small)), nil)
	if err != nil || tally.Round().Opened != 0 {
		t.Errorf("%d processes were started for clients that had theirs, %v", tally.Round().Opened, err)
	}
	wrong := loadgen.Only(progressCall(fastserver.Small)) // a tool that tells of no progress
	if _, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 1}, wrong, nil); err == nil || !strings.Contains(err.Error(), "without the progress") {
		t.Errorf("an answer without progress: %v", err)
	}
}

// TestCommandTalks has a server ask and tell before it answers, in a line that is longer than any buffer.
func TestCommandTalks(t *testing.T) {
	result, err := clientsOf(t, commandOf("talks")).Ask(t.Context(), loadgen.List())
	const saw = `"saw":[{"jsonrpc":"2.0","id":"a","result":{}},{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"method not found"}}]`
	if err != nil || !strings.Contains(string(result), saw) || len(result) < 1<<20 {
		t.Errorf("%v: %.300s", err, result)
	}
}

// TestCommandThatFails says of a process how it has ended, and what it said last.
func TestCommandThatFails(t *testing.T) {
	for _, c := range []struct {
		target *loadgen.Target
		want   []string
	}{
		{commandOf("dies"), []string{loadgen.FaultBroke, "exit status 3", "no key for the service"}},
		{commandOf("dies").With(mcp.EraLegacy), []string{loadgen.FaultConnect, "initialize", "exit status 3"}},
		{loadgen.NewCommandTarget(loadgen.Command{Args: []string{"no-such-program"}}), []string{loadgen.FaultConnect, "not found"}},
	} {
		_, err := clientsOf(t, c.target).Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 3}, loadgen.Only(listCall()), nil)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
}

// TestCommandIsKilled has nothing left of a process that does not end by itself: neither after a benchmark that was interrupted, nor
// after one that is over.
func TestCommandIsKilled(t *testing.T) {
	for _, interrupted := range []bool{true, false} {
		file := filepath.Join(t.TempDir(), "pids")
		p := loadgen.NewClients(commandOf("stays", file))
		ctx, cancel := context.WithCancel(t.Context())
		if err := p.Open(ctx, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Ask(ctx, loadgen.List()); err != nil {
			t.Fatal(err)
		}
		if interrupted {
			cancel()
		}
		p.Close(ctx)
		cancel()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(field)
			if state := processState(pid); state != "" && state != "Z" {
				t.Errorf("interrupted %v: process %d is there, state %s", interrupted, pid, state)
			}
		}
	}
}

// processState returns the state of a process, "" where there is none, or it cannot be told.
func processState(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if fields := strings.Fields(string(text)); len(fields) > 2 {
		return fields[2]
	}
	return ""
}

// TestAgents has several start at once, wait for each other at both steps, and be measured without those waits.
func TestAgents(t *testing.T) {
	address, s := startServer(t)
	call := toolCall(fastserver.Small)
	for name, target := range map[string]*loadgen.Target{
		"http, legacy": targetAt(t, address, fastserver.Sessions, mcp.EraLegacy), "http, modern": targetAt(t, address, "/mcp", mcp.EraModern),
		"lines, legacy": commandOf("lines").With(mcp.EraLegacy), "lines, modern": commandOf("lines"),
	} {
		before := s.Counts()
		var steps []string
		a := loadgen.Agents{Number: 3, Call: &call, Reached: func(step string, pids []int) {
			steps = append(steps, step)
			if want := map[bool]int{true: 3}[target.Command != nil]; len(pids) != want {
				t.Errorf("%s: %d processes, want %d", name, len(pids), want)
			}
			if posts := s.Counts().Posts - before.Posts; target.Command == nil && posts != map[string]int64{loadgen.StepListed: 6, loadgen.StepCalled: 9}[step]+map[bool]int64{true: 3}[target.Era == mcp.EraLegacy] {
				t.Errorf("%s, %s: %d POSTs", name, step, posts)
			}
		}}
		tally, err := loadgen.NewClients(target).RunAgents(t.Context(), a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		r := tally.Round()
		if !slices.Equal(steps, []string{loadgen.StepListed, loadgen.StepCalled}) || r.Succeeded != 3 || r.Opened != 3 || len(r.Kinds) != 3 ||
			r.Kinds[1].Service.Max > r.Kinds[2].Service.Max || r.Kinds[2].Service.Max != r.Service.Max {
			t.Errorf("%s: %v, %+v", name, steps, r)
		}
	}
}

// TestAgentsThatDiffer has each call itself by a version of its own, and makes no call where none is given.
func TestAgentsThatDiffer(t *testing.T) {
	var mu sync.Mutex
	versions := make(map[string]int)
	target := versionServer(t, func(version string) {
		mu.Lock()
		defer mu.Unlock()
		versions[version]++
	})
	for _, different := range []bool{false, true} {
		clear(versions)
		tally, err := loadgen.NewClients(target).RunAgents(t.Context(), loadgen.Agents{Number: 4, Different: different, Reached: func(step string, _ []int) {
			if step != loadgen.StepListed {
				t.Errorf("step %s without a call", step)
			}
		}})
		if want := map[bool]int{false: 1, true: 4}[different]; err != nil || len(versions) != want || len(tally.Round().Kinds) != 2 {
			t.Errorf("different %v: %v, %v", different, versions, err)
		}
	}
	if _, err := loadgen.NewClients(commandOf("dies")).RunAgents(t.Context(), loadgen.Agents{Number: 2, Reached: func(string, []int) {}}); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a server that dies: %v", err)
	}
}

// versionServer is a legacy server that tells of each client which version it says it has.
func versionServer(t *testing.T, saw func(version string)) *loadgen.Target {
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		switch {
		case x.ID() == "":
			x.Accept()
		case x.Method() == "initialize":
			_, version, _ := strings.Cut(string(x.Body), `"version":"`)
			saw(version)
			x.Result(`{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}`)
		default:
			x.Result(`{"tools":[]}`)
		}
	})
	return targetAt(t, s.Addr(), "/mcp", mcp.EraLegacy)
}
