// Servers that are commands, in a soak: what is done to them, and the agents that use them.

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/api"
	"fluentd-perf/internal/mcptest"
)

// commandHarms are that one process of a command is killed, by chance of r, and that all of them hang. The daemon says which processes there
// are.
func commandHarms(b *testing.B, r *rand.Rand, socket string) []harm {
	var hung []int
	return []harm{
		{"kill a command", "commands", func() {
			if all := commandProcesses(b, socket); len(all) > 0 {
				signalAll(all[r.IntN(len(all)):][:1], syscall.SIGKILL)
			}
		}, func() {}},
		{"hang commands", "commands", func() {
			hung = commandProcesses(b, socket)
			signalAll(hung, syscall.SIGSTOP)
		}, func() { signalAll(hung, syscall.SIGCONT) }},
	}
}

// signalAll sends a signal. A process that has ended meanwhile is no fault.
func signalAll(processes []int, signal syscall.Signal) {
	for _, pid := range processes {
		_ = syscall.Kill(pid, signal)
	}
}

func commandProcesses(b *testing.B, socket string) (all []int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), harness.MaxWait)
	defer cancel()
	var s api.Sample
	if err := api.Call(ctx, socket, api.CallSample, api.SampleParams{Processes: true}, &s); err != nil {
		b.Error(err)
	}
	for _, u := range s.Upstreams {
		for _, p := range u.Processes {
			if p.PID > 1 { // one that is being started has none yet, and 0 is our own group
				all = append(all, p.PID)
			}
		}
	}
	return all
}

// useCommands has the agent use commands, in one era, until its context ends.
func (a *chaosAgent) useCommands(ctx context.Context, n int) {
	upstream := []string{"command-per-agent", "command-shared"}[n%2]
	for ctx.Err() == nil {
		if n/2%2 == 0 {
			a.modernCalls(ctx, upstream)
		} else {
			a.commandSession(ctx, upstream)
		}
		a.rest(ctx, time.Duration(50+a.rand.IntN(200))*time.Millisecond)
	}
}

// modernCalls are some calls of 2026-07-28.
func (a *chaosAgent) modernCalls(ctx context.Context, upstream string) {
	for range 5 + a.rand.IntN(20) {
		a.callCommand(ctx, upstream, func(id, method, params string) (string, []string) { return harness.ModernRequest(id, method, params) })
	}
}

// commandSession is a session of 2025-11-25: one in four is left without a word.
func (a *chaosAgent) commandSession(ctx context.Context, upstream string) {
	status, header, text, err := a.exchange(ctx, http.MethodPost, "/mcp/"+upstream, harness.InitializeRequest, []string{harness.Bearer(a.who)})
	session := header.Get("Mcp-Session-Id")
	if err != nil || session == "" {
		a.noteCommand(ctx, upstream, "initialize", status, text, "", err, 0)
		return
	}
	fields := []string{"MCP-Protocol-Version: 2025-11-25", "Mcp-Session-Id: " + session}
	a.exchange(ctx, http.MethodPost, "/mcp/"+upstream, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, append(fields, harness.Bearer(a.who)))
	for range 5 + a.rand.IntN(20) {
		if !a.callCommand(ctx, upstream, func(id, method, params string) (string, []string) {
			return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s}}`, id, method, params), slices.Clone(fields)
		}) {
			return
		}
	}
	if a.rand.IntN(4) > 0 {
		a.exchange(ctx, http.MethodDelete, "/mcp/"+upstream, "", append(fields, harness.Bearer(a.who)))
	}
}

// callCommand asks for the list or makes a call, and rests. It reports whether the session goes on.
func (a *chaosAgent) callCommand(ctx context.Context, upstream string, request func(id, method, params string) (string, []string)) bool {
	id, method, params, want := a.id(), "tools/list", "", mcptest.Seal(commandKey, "list", "")
	if a.rand.IntN(4) > 0 {
		a.ids++
		token := fmt.Sprintf("%s/%d", a.name, a.ids)
		method, want = "tools/call", mcptest.Seal(commandKey, "work", token, "")
		params = fmt.Sprintf(`"name":"work","arguments":{"token":%q,"ms":%d}`, token, a.rand.IntN(30))
	}
	body, fields := request(id, method, params)
	begun := time.Now()
	status, _, text, err := a.exchange(ctx, http.MethodPost, "/mcp/"+upstream, body, append(fields, harness.Bearer(a.who)))
	a.noteCommand(ctx, upstream, method, status, text, want, err, time.Since(begun))
	a.rest(ctx, time.Duration(50+a.rand.IntN(200))*time.Millisecond)
	return ctx.Err() == nil && err == nil && status != http.StatusNotFound
}

// noteCommand takes down how a request to a command ended: with what only it can know, with an error of the daemon's, or without a session.
func (a *chaosAgent) noteCommand(ctx context.Context, upstream, method string, status int, text, want string, err error, took time.Duration) {
	switch {
	case err != nil && ctx.Err() != nil:
		a.run.ledger.count(upstream, "left", took)
	case err != nil:
		a.run.ledger.fault("%s, %s of %s: %v", upstream, method, a.name, err)
	case want != "" && status == http.StatusOK && strings.Contains(text, want):
		a.run.ledger.count(upstream, "ok", took)
	case status == http.StatusNotFound, strings.Contains(text, `"source":"fluentd-perf"`):
		a.run.ledger.count(upstream, fmt.Sprint("an error, HTTP ", status), took)
	default:
		a.run.ledger.fault("%s, %s of %s: HTTP %d: %.300q", upstream, method, a.name, status, text)
	}
}
