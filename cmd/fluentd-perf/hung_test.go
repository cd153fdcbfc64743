package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/daemon"
)

// hungServer accepts connections, reads what comes, and never answers.
func hungServer(t *testing.T) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return "http://" + ln.Addr().String() + "/mcp"
}

// toolCall is one tools/call of an agent that waits so long, or until ctx ends. "" is what it gets when it gives up.
func toolCall(ctx context.Context, t *testing.T, addr string, id int, timeout time.Duration) string {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"dig","_meta":`+
		`{"io.modelcontextprotocol/clientInfo":{"name":"coder"}}}}`, id)
	return postFor(ctx, t, addr, body, timeout)
}

// postFor is toolCall for any message.
func postFor(ctx context.Context, t *testing.T, addr, body string, timeout time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/mcp/docs", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return ""
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return string(answer)
}

// TestHungServer: a server accepts and never answers. Three agents give up after 10 s, one of them by notifications/cancelled
// with its call left open, a fourth waits on; the next is refused at once, and status says why, and how old the oldest call is.
func TestHungServer(t *testing.T) {
	t.Parallel()
	addr, status := servingWithStatus(t, fmt.Sprintf("listen: 127.0.0.1:0\nupstreams: {docs: {url: %q}}\n", hungServer(t)))
	untilGivenUp, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	var three, fourth sync.WaitGroup
	fourth.Go(func() { toolCall(untilGivenUp, t, addr, 3, time.Minute) })
	fourth.Go(func() { toolCall(untilGivenUp, t, addr, 2, time.Minute) })
	fourth.Go(func() {
		<-time.After(12 * time.Second)
		postFor(untilGivenUp, t, addr, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}`, time.Minute)
	})
	for id := range 2 {
		three.Go(func() {
			if got := toolCall(t.Context(), t, addr, id, 14*time.Second); got != "" {
				t.Errorf("agent %d got %s", id, got)
			}
		})
	}
	three.Wait()
	var refused string
	for begun := time.Now(); refused == "" && time.Since(begun) < programWait; { // the daemon sees the second one leave a little later
		refused = toolCall(t.Context(), t, addr, 9, 500*time.Millisecond) // at once: else it goes
	}
	const why = "the server sent nothing for 1" // 12s or 14s, and the caller gave up
	if !strings.Contains(refused, `"code":1503`) || !strings.Contains(refused, why) {
		t.Errorf("the next agent got %q", refused)
	}
	var answer api.Status
	if err := json.Unmarshal([]byte(status(t, "-o", "json")), &answer); err != nil {
		t.Fatal(err)
	}
	u := answer.Upstreams[0]
	if tr := u.Endpoints[0].Trouble; tr == nil || tr.Failures < 3 || !strings.HasPrefix(tr.Message, why) || time.Since(tr.Since) > time.Minute {
		t.Errorf("the trouble is %+v", tr)
	}
	if u.CallsNow != 3 || len(u.Calls) != 1 || u.Calls[0].AgeMs < 10_000 || u.Calls[0].Tool != "dig" || u.Calls[0].Agent != "coder" {
		t.Errorf("%d calls, the oldest %+v", u.CallsNow, u.Calls)
	}
	if text := status(t); !strings.Contains(text, "open") || !strings.Contains(text, "times: "+why) {
		t.Errorf("status says\n%s", text)
	}
	if text := status(t, "--calls"); !strings.Contains(strings.Join(strings.Fields(text), " "), "tools/call dig coder") {
		t.Errorf("status --calls says\n%s", text)
	}
	giveUp()
	fourth.Wait()
	http.DefaultClient.CloseIdleConnections()
}

// servingWithStatus is serving with an admin socket, and the verb that asks there.
func servingWithStatus(t *testing.T, yaml string) (addr string, status func(t *testing.T, args ...string) string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fp") // a short path, whatever the test is called
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "f.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(config.Sources{File: file, Env: os.LookupEnv, ReadFile: os.ReadFile})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Drain = time.Second
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{Config: cfg, Paths: daemon.Paths{Runtime: dir}, Log: slog.New(slog.DiscardHandler), Ready: func(a string) { ready <- a }})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return <-ready, func(t *testing.T, args ...string) string {
		t.Helper()
		code, out, complaints := command(append([]string{"status", "--socket", filepath.Join(dir, daemon.SocketName)}, args...)...)
		if code != 0 {
			t.Fatalf("status: %d %s", code, complaints)
		}
		return out
	}
}
