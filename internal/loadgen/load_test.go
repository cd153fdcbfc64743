package loadgen_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

// TestEveryKindIsAnsweredRightly makes calls of each kind in each era to the scripted server, whose every byte is checked.
func TestEveryKindIsAnsweredRightly(t *testing.T) {
	address, _ := startServer(t)
	kinds := map[string]loadgen.Kind{
		"small": toolCall(fastserver.Small), "large": toolCall(fastserver.Large), "huge": toolCall(fastserver.Huge),
		"progress": progressCall(fastserver.Progress), "huge in a stream": progressCall(fastserver.HugeInStream), "list": listCall(),
	}
	for name, k := range kinds {
		for _, at := range []struct {
			path string
			era  mcp.Era
		}{{"/mcp", mcp.EraModern}, {"/mcp", mcp.EraLegacy}, {fastserver.Sessions, mcp.EraLegacy}} {
			wantAllRight(t, name+at.path+at.era.String(), targetAt(t, address, at.path, at.era), k)
		}
	}
	wantAllRight(t, "plain", targetAt(t, address, "/rpc", mcp.EraPlain), plainCall(0))
	wantAllRight(t, "an array", targetAt(t, address, "/rpc", mcp.EraPlain), plainCall(10))
}

func wantAllRight(t *testing.T, what string, target *loadgen.Target, k loadgen.Kind) {
	t.Helper()
	tally, err := clientsOf(t, target).Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 3, Requests: 12}, loadgen.Only(k), nil)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if r := tally.Round(); r.Succeeded != 12 || r.Failed != 0 || r.Service == nil || r.Service.Count != 12 || r.Cache.None != 12 {
		t.Errorf("%s: %d succeeded, %v failed: %s", what, r.Succeeded, r.Faults, r.FirstFault)
	}
}

// TestConnectionsAreKept counts what the server sees: loads one after the other use the same connections, one for each client.
func TestConnectionsAreKept(t *testing.T) {
	address, s := startServer(t)
	p := clientsOf(t, targetAt(t, address, "/mcp", mcp.EraModern))
	if err := p.Open(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		tally, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 3, Requests: 30}, loadgen.Only(toolCall(fastserver.Small)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if opened := tally.Round().Opened; opened != 0 {
			t.Errorf("%d connections were opened", opened)
		}
	}
	if c := s.Counts(); c.Connections != 3 || c.Calls != 60 {
		t.Errorf("the server saw %+v", c)
	}
}

// TestLargestArray: the largest array is that since the counts were read last, so that what one round had says nothing of the next one.
func TestLargestArray(t *testing.T) {
	address, s := startServer(t)
	for _, size := range []int{7, 3} {
		k := loadgen.Kind{Name: "array", Method: fastserver.Small, Params: `"key":"` + loadgen.KeyMark + `"`, Result: fastserver.Result(fastserver.Small, loadgen.KeyMark), Array: size}
		wantAllRight(t, "arrays", targetAt(t, address, "/rpc", mcp.EraPlain), k)
		if got := s.Counts().MaxBatch; got != int64(size) {
			t.Errorf("%d calls in the largest array, want %d", got, size)
		}
	}
}

// TestSessions has each client of a legacy server open a session once, and the life of a session be told in its steps.
func TestSessions(t *testing.T) {
	address, s := startServer(t)
	p := clientsOf(t, targetAt(t, address, fastserver.Sessions, mcp.EraLegacy))
	if _, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, Requests: 20}, loadgen.Only(toolCall(fastserver.Small)), nil); err != nil {
		t.Fatal(err)
	}
	if c := s.Counts(); c.Posts > 20+2*2 || c.Posts < 20+2 { // a client may find no call left to make
		t.Errorf("the server saw %d POSTs for 20 calls in 2 sessions", c.Posts)
	}
	for _, at := range []struct {
		path  string
		era   mcp.Era
		posts int64
	}{{fastserver.Sessions, mcp.EraLegacy, 3}, {"/mcp", mcp.EraModern, 2}} {
		before := s.Counts()
		tally, err := clientsOf(t, targetAt(t, address, at.path, at.era)).Run(t.Context(),
			loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, Requests: 10}, loadgen.Only(loadgen.Kind{Name: "session", Session: true}), nil)
		if err != nil {
			t.Fatal(err)
		}
		after, r := s.Counts(), tally.Round()
		if posts, connections := after.Posts-before.Posts, after.Connections-before.Connections; posts != 10*at.posts || connections != 10 || r.Opened != 10 {
			t.Errorf("%v: %d POSTs over %d connections for 10 sessions, %d told", at.era, posts, connections, r.Opened)
		}
		if len(r.Kinds) != 5 || r.Succeeded != 10 {
			t.Fatalf("%v: %d kinds, %d succeeded: %s", at.era, len(r.Kinds), r.Succeeded, r.FirstFault)
		}
		for _, k := range r.Kinds {
			if k.Service == nil || k.Service.Count != 10 || k.Part == (k.Name == "session") {
				t.Errorf("%v: %+v", at.era, k)
			}
		}
		if r.Service.Count != 10 {
			t.Errorf("%v: steps count as calls: %d", at.era, r.Service.Count)
		}
	}
}

// TestConnectionForEachAnswer: a server that closes the connection after each answer, those of the handshake too, is called over as many,
// and told when sessions end.
func TestConnectionForEachAnswer(t *testing.T) {
	var opened, ended atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		_, id, _ := strings.Cut(string(body), `"id":`)
		id, _, _ = strings.Cut(id, ",")
		switch {
		case r.Method == http.MethodDelete:
			ended.Add(1)
		case strings.Contains(string(body), `"initialize"`):
			w.Header().Set("Mcp-Session-Id", fmt.Sprint("s", opened.Add(1)))
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}}`, id)
		case id == "":
			w.WriteHeader(http.StatusAccepted)
		default:
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"tools":[]}}`, id)
		}
	}))
	s.Config.SetKeepAlivesEnabled(false)
	s.Start()
	defer s.Close()
	p := loadgen.NewClients(targetAt(t, s.Listener.Addr().String(), "/mcp", mcp.EraLegacy))
	if err := p.Open(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	tally, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, Requests: 10}, loadgen.Only(loadgen.List()), nil)
	if err != nil || tally.Round().Failed > 0 {
		t.Errorf("%v: %s", err, tally.Round().FirstFault)
	}
	life := loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, Requests: 4}
	if tally, err = p.Run(t.Context(), life, loadgen.Only(loadgen.Kind{Name: "session", Session: true}), nil); err != nil || tally.Round().Failed > 0 {
		t.Errorf("%v: %s", err, tally.Round().FirstFault)
	}
	p.Close(t.Context())
	if opened.Load() != 6 || ended.Load() != 6 {
		t.Errorf("%d sessions were opened, %d ended; want 6", opened.Load(), ended.Load())
	}
}

// TestSessionIsLost: a server that does not know a session any more is called in a new one.
func TestSessionIsLost(t *testing.T) {
	target := scriptedTarget(t, []string{
		answerWith(`{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}`, "Mcp-Session-Id: one"), accepted,
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		answerWith(`{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"x","version":"1"}}`, "Mcp-Session-Id: two"), accepted,
		answerWith(`{"content":[]}`),
	})
	target.Era = mcp.EraLegacy
	tally, err := clientsOf(t, target).Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 2}, loadgen.Only(loadgen.ToolCall("x", "{}")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := tally.Round(); r.Succeeded != 1 || r.Faults[loadgen.FaultStatus] != 1 {
		t.Errorf("%d succeeded, %v: %s", r.Succeeded, r.Faults, r.FirstFault)
	}
}

// TestBursts has all calls of a burst have one key, and the next burst another.
func TestBursts(t *testing.T) {
	address, s := startServer(t)
	first := loadgen.NewKeys()
	work := &loadgen.Work{Kinds: []loadgen.Kind{toolCall(fastserver.Small)}, Pick: func(n int64) (int, int64) { return 0, first + n/5 }}
	tally, err := clientsOf(t, targetAt(t, address, "/mcp", mcp.EraModern)).Run(t.Context(), loadgen.Load{Loop: loadgen.Burst, Concurrency: 5, Requests: 18}, work, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Counts(); tally.Succeeded() != 18 || c.Calls != 18 || c.Connections != 5 {
		t.Errorf("%d succeeded, the server saw %+v", tally.Succeeded(), c)
	}
}

// TestNobodyThere: no success is an error that says why, and a load that cannot succeed ends.
func TestNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	tally, err := clientsOf(t, targetAt(t, address, "/mcp", mcp.EraModern)).Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, Requests: 4}, loadgen.Only(loadgen.List()), nil)
	if !errors.Is(err, loadgen.ErrNoSuccess) || tally.Round().Faults[loadgen.FaultConnect] != 4 {
		t.Errorf("%v, %v", err, tally.Round().Faults)
	}
}

// TestInterrupted: a load ends with its context, also where a call is under way that is never answered.
func TestInterrupted(t *testing.T) {
	target := targetAt(t, "127.0.0.1:1", "/mcp", mcp.EraModern)
	target.Dial = func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, server) }() // until the client leaves
		return client, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := clientsOf(t, target)
	seen := make(chan struct{})
	go func() {
		<-seen
		cancel()
	}()
	first := true
	_, err := p.Run(ctx, loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, DurationMs: 60_000}, loadgen.Only(loadgen.List()), func(loadgen.Point) {
		if first {
			first = false
			close(seen)
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestStreams opens sessions with a GET stream each, and counts those that end.
func TestStreams(t *testing.T) {
	address, s := startServer(t)
	watched := 0 // not guarded: one goroutine at a time writes it
	streams, err := loadgen.OpenStreams(t.Context(), targetAt(t, address, fastserver.Sessions, mcp.EraLegacy), 50, func(open int) {
		if watched++; open != watched {
			t.Errorf("told of %d, after %d", open, watched-1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	if got := s.Counts().Streams; streams.Len() != 50 || streams.Alive() != 50 || got != 50 {
		t.Errorf("%d opened, %d alive, the server has %d", streams.Len(), streams.Alive(), got)
	}
	s.Close()
	late := time.Now().Add(30 * time.Second)
	for streams.Alive() != 0 {
		if time.Now().After(late) {
			t.Fatalf("%d are alive after the server's end", streams.Alive())
		}
		runtime.Gosched()
	}
	none, err := loadgen.OpenStreams(t.Context(), targetAt(t, address, fastserver.Sessions, mcp.EraLegacy), 5, func(int) {})
	if err == nil || none.Len() != 0 {
		t.Errorf("%d opened at a server that has ended, %v", none.Len(), err)
	}
}

// TestRunUntil makes calls for as long as something else takes, and ends those under way.
func TestRunUntil(t *testing.T) {
	address, s := startServer(t)
	p := clientsOf(t, targetAt(t, address, "/mcp", mcp.EraModern))
	until, ended := make(chan struct{}), make(chan loadgen.Round)
	go func() {
		tally, err := p.RunUntil(t.Context(), until, 3, loadgen.Only(toolCall(fastserver.Small)))
		if err != nil {
			t.Error(err)
		}
		ended <- tally.Round()
	}()
	for s.Counts().Calls < 100 {
		runtime.Gosched()
	}
	close(until)
	if r := <-ended; r.Failed != 0 || r.Succeeded < 100 || r.Succeeded != int64(s.Counts().Calls) {
		t.Errorf("%d succeeded and %d failed of %+v", r.Succeeded, r.Failed, s.Counts())
	}
}
