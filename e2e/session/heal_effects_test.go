// What else a lost session means: for other sessions, for what was cached, for the status.

package session

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
)

// TestManySessionsHeal: every agent of a server gets a session of its own again, with what it had said, and its own word.
func TestManySessionsHeal(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	const many = 20
	sessions := make([]*agentSession, many)
	for i := range sessions {
		sessions[i] = beginSession(t, d, fmt.Sprint("Authorization: Bearer ", i))
		sessions[i].right(sessions[i].ask("resources/subscribe", fmt.Sprintf(`{"uri":"a://%d"}`, i)))
	}
	f.restart()
	var wg sync.WaitGroup
	from := make([]string, many)
	for i, k := range sessions {
		wg.Go(func() {
			var result struct{ From string }
			if err := json.Unmarshal(k.list().RPC(t).Result, &result); err != nil {
				t.Errorf("agent %d: %v", i, err)
			}
			from[i] = result.From
			k.told(k.call(fmt.Sprint("refused ", i)))
			k.right(k.call(fmt.Sprint("sent ", i)))
		})
	}
	wg.Wait()
	owner := map[string]int{}
	for i, id := range from {
		if other, twice := owner[id]; twice {
			t.Errorf("the agents %d and %d are both in %s", other, i, id)
		}
		owner[id] = i
		f.mu.Lock()
		s := f.sessions[id]
		f.mu.Unlock()
		if s == nil || len(s.subscribed) != 1 || !s.subscribed[fmt.Sprint("a://", i)] {
			t.Errorf("agent %d is in %q, which was told %+v", i, id, s)
		}
		if r, s := f.runs(fmt.Sprint("refused ", i)), f.runs(fmt.Sprint("sent ", i)); r != 0 || s != 1 {
			t.Errorf("agent %d: the refused call ran %d times, the sent one %d", i, r, s)
		}
	}
	if n := heals(d, "healed"); n != many {
		t.Errorf("%d healings are counted, want %d", n, many)
	}
}

// TestServerMintsTheSameID: a server that counts its sessions begins anew, and gives the id that the agent has.
func TestServerMintsTheSameID(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	f.mu.Lock()
	f.minted = 0
	f.mu.Unlock()
	f.restart()
	k.right(k.list())
	k.told(k.call("refused"))
	k.right(k.call("sent"))
	if f.saw("initialize") != 2 || f.kept("s1") == nil || heals(d, "healed") != 1 {
		t.Errorf("the server got %q", f.received())
	}
}

// TestHealingEndsWhatWasCached: a server that has lost its sessions may be another version of itself.
func TestHealingEndsWhatWasCached(t *testing.T) {
	t.Parallel()
	f := startSessionServer(t)
	d := harness.Start(t, harness.OneUpstream(f.URL(), "cache: {ttl: {tools/list: 1h}}"))
	k := beginSession(t, d)
	k.right(k.list())
	k.right(k.list())
	if n := f.saw("tools/list"); n != 1 {
		t.Fatalf("the server was asked %d times: nothing was cached", n)
	}
	f.restart()
	k.right(k.ask("prompts/list", "{}"))
	if r := k.list(); !strings.Contains(r.Body, `"from":"s2"`) {
		t.Errorf("the list is of before the healing: %s", r.Body)
	}
}

// TestStatusOfHealing: `fluentd-perf status` counts what was healed and what was not.
func TestStatusOfHealing(t *testing.T) {
	t.Parallel()
	f := startSessionServer(t)
	at := harness.NewFolders(t)
	d := harness.Start(t, harness.OneUpstream(f.URL(), "").In(at))
	k := beginSession(t, d)
	f.forget()
	k.right(k.list())
	f.become(func(p *identity) { p.name = "somebody else" })
	f.forget()
	passedOn(t, k.list())
	var status struct {
		Upstreams []struct {
			Sessions struct{ Healed, GaveUp int }
		}
	}
	if at.VerbJSON(t, &status, "status"); len(status.Upstreams) != 1 {
		t.Fatalf("status: %+v", status)
	}
	if s := status.Upstreams[0].Sessions; s.Healed != 1 || s.GaveUp != 1 {
		t.Errorf("status says %+v, want one healed and one given up", s)
	}
	if r := k.Must(http.MethodDelete, "/mcp/s", "", k.with()...); r.Status != http.StatusNotFound {
		t.Errorf("the end of the session that is lost: %d %s", r.Status, r.Body)
	}
}
