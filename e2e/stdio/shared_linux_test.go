package stdio

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/api"
)

// asksClient are tools whose servers ask a client also for what it has not declared. Each client refuses that in words of its own.
var asksClient = regexp.MustCompile("sampl|roots|elicit")

// TestSharedServers plays a dialogue with each server that keeps nothing for one client, by clients without capabilities, and the same
// through the daemon, where the sessions of a server share one process.
func TestSharedServers(t *testing.T) {
	var pairs []*pair
	for _, c := range casts() {
		if strings.Contains(c.name, "sequential") { // which keeps something
			continue
		}
		c.Bare, c.Roots, c.Changes = true, false, min(c.Changes, 1)
		c.Steps = slices.DeleteFunc(slices.Clone(c.Steps), func(s step) bool { return asksClient.MatchString(s.Tool) })
		for i := range c.Steps {
			c.Steps[i].Either = true // what is not there for such a client fails, which is then the same both ways
		}
		for _, client := range []string{"go-2025-11-25", "ts1", "ts2"} {
			rare := client == "ts2" || client == "ts1" && c.name != "npm everything" || slices.Contains([]string{"npm memory", "go memory", "go hello", "go tool schemas"}, c.name)
			if rare && os.Getenv("E2E_FULL") == "" {
				continue
			}
			p := &pair{cast: c, client: client, folders: [2]string{t.TempDir() + "/", t.TempDir() + "/"}}
			pairs = append(pairs, p)
		}
	}
	playAll(t, pairs)
}

// TestSharedProcessKilled: ten agents go on in one other process when theirs is killed; those with state are told so once.
func TestSharedProcessKilled(t *testing.T) {
	t.Parallel()
	at := harness.NewFolders(t)
	d := harness.Start(t, harness.Config{Upstreams: map[string]string{"s": entry(t, "legacy")}, Args: []string{"--shared", "s", "--log-level", "warn"}}.In(at))
	var agents []*rawSession
	for range 10 {
		agents = append(agents, begin(t, d.URL(""), "s"))
	}
	ask := func(a *rawSession, body string) string {
		return a.send(body).Body
	}
	const list, count = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"count"}}`
	pids := map[int]bool{}
	for i, a := range agents {
		ask(a, list)
		if i%2 == 1 {
			pids[pidIn(t, ask(a, count))] = true
		}
	}
	if len(pids) != 1 {
		t.Fatalf("processes %v", pids)
	}
	for pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, "that the daemon knows of the end", func() bool {
		var status api.Status
		at.VerbJSON(t, &status, "status", "--processes")
		return status.Upstreams[0].ProcessesNow == 0
	})
	var all sync.WaitGroup
	var mu sync.Mutex
	for i, a := range agents {
		all.Go(func() {
			text := ask(a, count)
			if told := strings.Contains(text, `"code":1410`); told != (i%2 == 1) {
				t.Errorf("session %d: %s", i, text)
			} else if told {
				text = ask(a, count)
			}
			mu.Lock()
			defer mu.Unlock()
			pids[pidIn(t, text)] = true
		})
	}
	all.Wait()
	if len(pids) != 2 {
		t.Errorf("processes %v", pids)
	}
}

// pidIn returns the process that an answer of the counting server names.
func pidIn(t *testing.T, answer string) (pid int) {
	t.Helper()
	_, text, _ := strings.Cut(answer, `"text":"`)
	if _, err := fmt.Sscan(text, &pid); err != nil {
		t.Errorf("%s: %v", answer, err)
	}
	return pid
}
