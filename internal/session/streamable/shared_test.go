package streamable_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/upstream/stdio"
)

// shares begins that many sessions in one process.
func shares(t *testing.T, r *rig, n int) (all []*agent) {
	t.Helper()
	for range n {
		a := newAgent(t, r.up)
		a.open(mcp.Version20251125)
		all = append(all, a)
	}
	return all
}

// TestSharedProcessKilled holds that ten sessions go on in one other process when theirs is killed: those with state are told so once,
// the others not at all; and that levels and subscriptions are said again.
func TestSharedProcessKilled(t *testing.T) {
	x := &scripted{}
	world(t, x, options{replicas: 1}, func(t *testing.T, r *rig, _ *agent) {
		agents := shares(t, r, 10)
		for i, a := range agents {
			if a.call(list); i%2 == 1 {
				a.call(toolCall(1, "echo", "x"))
			}
		}
		agents[0].call(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}`)
		agents[1].call(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}`)
		agents[3].call(`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a:1"}}`)
		agents[5].call(`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a:1"}}`)
		hangs := make(chan said)
		go func() { hangs <- agents[7].call(toolCall(9, "hang", "x")) }()
		synctest.Wait()
		x.seen()
		x.last().End("signal: killed")
		if got := <-hangs; got.failure == nil || got.failure.Code != 1502 || got.failure.Sent != mcp.SentUnknown {
			t.Errorf("a call under way: %+v", got)
		}
		var all sync.WaitGroup
		var told atomic.Int32
		for i, a := range agents {
			all.Go(func() {
				got := a.call(toolCall(2, "count", "x"))
				if f := got.failure; f != nil && f.Code == 1410 {
					told.Add(1)
					got = a.call(toolCall(3, "count", "x"))
				} else if i%2 == 1 {
					t.Errorf("session %d has state and was told nothing: %+v", i, got)
				}
				if got.failure != nil || !strings.Contains(got.body, `"from":2`) {
					t.Errorf("session %d: %+v", i, got)
				}
			})
		}
		all.Wait()
		if n := told.Load(); n != 5 || x.started() != 2 {
			t.Errorf("%d sessions were told, want 5; %d processes were started, want 2", n, x.started())
		}
		counts := map[string]int{}
		for _, method := range strings.Fields(x.seen()) {
			counts[method]++
		}
		if counts["initialize"] != 1 || counts["notifications/initialized"] != 1 || counts["logging/setLevel"] != 2 || counts["resources/subscribe"] != 1 {
			t.Errorf("the new process got %v", counts)
		}
		x.last().Write(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:1"}}` + "\n")
		for i, a := range agents {
			ctx, leave := context.WithCancel(t.Context())
			events, _ := a.get(ctx, "")
			synctest.Wait()
			if n := len(events); (n == 1) != (i == 3 || i == 5) || n > 1 {
				t.Errorf("session %d got %d updates", i, n)
			}
			leave()
			for range events {
			}
		}
	})
}

// TestSharedProcessIdle holds that a process which nobody uses goes, and that its sessions go on in another one.
func TestSharedProcessIdle(t *testing.T) {
	x := &scripted{}
	world(t, x, options{replicas: 1, pool: func(o *stdio.PoolOptions) { o.IdleTimeout = time.Minute }}, func(t *testing.T, r *rig, _ *agent) {
		agents := shares(t, r, 2)
		agents[1].call(toolCall(1, "echo", "x"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := r.pool.Status().Processes; n != 0 {
			t.Fatalf("%d processes", n)
		}
		if got := agents[0].call(toolCall(2, "echo", "x")); got.failure != nil {
			t.Errorf("without state: %v", got.failure)
		}
		if got := agents[1].call(toolCall(2, "echo", "x")); got.failure == nil || got.failure.Code != 1410 {
			t.Errorf("with state: %+v", got)
		}
		if got := agents[1].call(toolCall(3, "echo", "x")); got.failure != nil {
			t.Errorf("after the notice: %v", got.failure)
		}
		if n := x.started(); n != 2 {
			t.Errorf("%d processes were started", n)
		}
	})
}

// TestSharedChangesWait holds that a change of lists reaches each session on the stream that it has, and one without any when it opens
// one.
func TestSharedChangesWait(t *testing.T) {
	x := &scripted{}
	world(t, x, options{replicas: 1}, func(t *testing.T, r *rig, _ *agent) {
		agents := shares(t, r, 3)
		ctx, leave := context.WithCancel(t.Context())
		open, _ := agents[0].get(ctx, "")
		got := agents[1].call(toolCall(1, "change", "x"))
		if !got.isStream || len(got.events) != 2 || !strings.Contains(string(got.events[0].Data), "list_changed") {
			t.Errorf("the session with a call under way: %+v", got)
		}
		synctest.Wait()
		later, _ := agents[2].get(ctx, "")
		synctest.Wait()
		for i, events := range []<-chan mcp.Event{open, later} {
			if len(events) != 1 || !strings.Contains(string((<-events).Data), "list_changed") {
				t.Errorf("GET stream %d has not the one change", i)
			}
		}
		leave()
		synctest.Wait()
	})
}

// TestSharedVersions holds that sessions of two versions of the protocol have two processes.
func TestSharedVersions(t *testing.T) {
	x := &scripted{}
	world(t, x, options{replicas: 1}, func(t *testing.T, r *rig, _ *agent) {
		from := map[string]int{}
		for _, version := range []string{mcp.Version20251125, mcp.Version20250618, mcp.Version20251125, mcp.Version20250618} {
			a := newAgent(t, r.up)
			a.open(version)
			for n := range 2 {
				if strings.Contains(a.call(list).body, fmt.Sprintf(`"from":%d`, n+1)) {
					from[fmt.Sprint(version, " ", n+1)]++
				}
			}
		}
		if len(from) != 2 || from[mcp.Version20251125+" 1"] != 4-2 || from[mcp.Version20250618+" 2"] != 4-2 {
			t.Errorf("%v", from)
		}
	})
}

// TestSharedOfficialClient drives a legacy server by two official clients that share it.
func TestSharedOfficialClient(t *testing.T) {
	r := newRig(t, options{child: "legacy", replicas: 1})
	url := r.serve(t)
	var progress atomic.Int32
	one := connect(t, url, &sdk.ClientOptions{ProgressNotificationHandler: func(context.Context, *sdk.ProgressNotificationClientRequest) { progress.Add(1) }})
	two := connect(t, url, nil)
	checkCalls(t, one, &progress)
	for i, s := range []*sdk.ClientSession{one, two} {
		if got, err := tool(t, s, "count", echoIn{}); err != nil || got != fmt.Sprint(i+1) {
			t.Errorf("count: %q, %v", got, err)
		}
		if _, err := tool(t, s, "sample", echoIn{Text: "?"}); err == nil {
			t.Error("a client was asked")
		}
	}
	if n := r.pool.Status().Processes; n != 1 {
		t.Errorf("%d processes", n)
	}
	for _, s := range []*sdk.ClientSession{one, two} {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if n := r.store.Len(); n != 0 {
		t.Errorf("%d sessions after the DELETEs", n)
	}
}
