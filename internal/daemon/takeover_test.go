package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
)

// said is a log that a test reads while it is written.
type said struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.b.String(), text)
}

// overlapping is one of several daemons in this process that have one state and one runtime directory.
type overlapping struct {
	t     *testing.T
	addr  string
	log   said
	stop  context.CancelFunc
	ended chan error
}

func newOverlapping(t *testing.T, dirs Paths, server string) *overlapping {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"s=" + server}, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	d := &overlapping{t: t, ended: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	addr := make(chan string, 1)
	go func() {
		d.ended <- Run(ctx, Options{Config: cfg, Paths: dirs, Log: slog.New(slog.NewTextHandler(&d.log, nil)), Ready: func(a string) { addr <- a }})
	}()
	select {
	case d.addr = <-addr:
	case err := <-d.ended:
		t.Fatal(err)
	}
	return d
}

// end stops the daemon and waits until its last call has ended.
func (d *overlapping) end() {
	d.t.Helper()
	d.stop()
	if err := <-d.ended; err != nil {
		d.t.Error(err)
	}
}

// ask makes one modern call and returns the body and the Cache-Status.
func (d *overlapping) ask(method, name string) (body, from string) {
	d.t.Helper()
	params := ""
	if name != "" {
		params = fmt.Sprintf(`"name":%q,`, name)
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+d.addr+"/mcp/s", strings.NewReader(fmt.Sprintf(
		`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",`+
			`"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}}}`, method, params)))
	if err != nil {
		d.t.Error(err)
		return "", ""
	}
	r.Close = true
	r.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Authorization": {"ada"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method},
	}
	if name != "" {
		r.Header.Set("Mcp-Name", name)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Error(err)
		return "", ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text), resp.Header.Get("Cache-Status")
}

// status is what the daemon says that has the admin socket.
func statusAt(t *testing.T, dirs Paths) (a api.Status, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = api.Call(ctx, filepath.Join(dirs.Runtime, SocketName), api.CallStatus, api.StatusParams{}, &a)
	return a, err
}

// soon tries f until it is true, for a few seconds.
func soon(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline, again := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for !f() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestOverlappingStarts replaces a daemon that has a call in flight by another, and that by a third: each has the key and
// memory from its start, and the state directory with its database and the admin socket soon after the one before has ended.
func TestOverlappingStarts(t *testing.T) {
	let, begun := make(chan struct{}), make(chan struct{}, 3)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("Mcp-Method") == "tools/call" {
			begun <- struct{}{}
			<-let
			fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[]}}`)
			return
		}
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","tools":[],"ttlMs":600000,"cacheScope":"private"}}`)
	}))
	defer server.Close()
	short, err := os.MkdirTemp("", "fp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	dirs := Paths{State: filepath.Join(short, "state"), Runtime: filepath.Join(short, "run")}

	old := newOverlapping(t, dirs, server.URL)
	if _, from := old.ask("tools/list", ""); !strings.Contains(from, "stored") {
		t.Fatalf("Cache-Status: %s", from)
	}
	soon(t, "the database has it", func() bool {
		a, err := statusAt(t, dirs)
		return err == nil && len(a.Tiers) == 2 && a.Tiers[1].Entries == 1
	})
	for range 2 {
		answered := make(chan string, 1)
		go func() {
			body, _ := old.ask("tools/call", "slow")
			answered <- body
		}()
		<-begun
		old.stop()
		soon(t, "the old daemon drains", func() bool { return old.log.has("draining") })

		next := newOverlapping(t, dirs, server.URL)
		if !next.log.has("until the state directory is free") || !next.log.has("another daemon has the admin socket") {
			t.Errorf("the log is\n%s", &next.log.b)
		}
		for _, want := range []string{"stored", "detail=memory"} { // of its own; nothing waits for the other
			if _, from := next.ask("prompts/list", ""); !strings.Contains(from, want) {
				t.Errorf("Cache-Status: %s, want %s", from, want)
			}
		}
		if a, err := statusAt(t, dirs); err != nil || a.Addresses[0] != old.addr {
			t.Errorf("beside the old daemon the verbs reach %v, %v", a.Addresses, err)
		}
		let <- struct{}{}
		if body := <-answered; !strings.Contains(body, `"content":[]`) {
			t.Errorf("the call in flight got %s", body)
		}
		old.end()
		freed := time.Now()
		soon(t, "the new daemon has both", func() bool {
			a, err := statusAt(t, dirs)
			return err == nil && a.Addresses[0] == next.addr && len(a.Tiers) == 2 && a.Tiers[1].Breaker == "closed" && a.Tiers[1].Entries > 0
		})
		if took := time.Since(freed); took > 20*time.Second { // on a slow machine
			t.Errorf("that took %v", took)
		}
		if _, from := next.ask("tools/list", ""); !strings.Contains(from, "detail=database") {
			t.Errorf("what the old daemon kept: Cache-Status: %s", from)
		}
		if next.log.has("did not end cleanly") {
			t.Error("the old daemon's end counts as unclean")
		}
		old = next
	}
	old.end()
	if left, _ := filepath.Glob(filepath.Join(dirs.State, "cache.running")); left != nil {
		t.Error("the last daemon's end counts as unclean")
	}
}

// TestOverlapThatEndsFirst holds that a daemon whose predecessor stays ends like others, and leaves that one's files alone.
func TestOverlapThatEndsFirst(t *testing.T) {
	short, err := os.MkdirTemp("", "fp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	dirs := Paths{State: filepath.Join(short, "state"), Runtime: filepath.Join(short, "run")}
	first := newOverlapping(t, dirs, "http://127.0.0.1:1/mcp")
	second := newOverlapping(t, dirs, "http://127.0.0.1:1/mcp")
	second.end()
	if a, err := statusAt(t, dirs); err != nil || a.Addresses[0] != first.addr {
		t.Errorf("the verbs reach %v, %v", a.Addresses, err)
	}
	if second.log.has("closing the") {
		t.Errorf("the log is\n%s", &second.log.b)
	}
	first.end()
	third := newOverlapping(t, dirs, "http://127.0.0.1:1/mcp")
	if third.log.has("another daemon") || third.log.has("cleanly") {
		t.Errorf("the log is\n%s", &third.log.b)
	}
	third.end()
}
