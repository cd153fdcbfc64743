package streamable_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/streamable"
)

// TestRestart holds that sessions outlive the daemon, also one that was killed, and go on as after a reaped process.
func TestRestart(t *testing.T) {
	o := options{path: filepath.Join(t.TempDir(), "sessions")}
	x := &scripted{}
	var session string
	world(t, x, o, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		session = a.session
		a.call(toolCall(1, "count", ""))
		time.Sleep(time.Second)
	})
	if info, err := os.Stat(o.path); err != nil || info.Mode() != 0o600 {
		t.Fatalf("the file: %v, %v", info, err)
	}
	world(t, x, o, func(t *testing.T, r *rig, a *agent) {
		a.session = session
		if got := a.call(list); got.failure != nil || got.status != 200 {
			t.Fatalf("a list: %+v", got)
		}
		time.Sleep(time.Second)
	})
	world(t, x, o, func(t *testing.T, r *rig, a *agent) { // the notice is pending still
		a.session = session
		if got := a.call(toolCall(2, "count", "")); got.failure == nil || got.failure.Code != 1410 {
			t.Errorf("a call: %+v", got)
		}
		if got := a.call(toolCall(3, "count", "")); got.failure != nil {
			t.Errorf("the next: %v", got.failure)
		}
		a.read(a.do(t.Context(), mcp.LaneEnd, ""))
		a.session = ""
		a.open(mcp.Version20251125)
		r.store.Close()
	})
	world(t, x, o, func(t *testing.T, r *rig, a *agent) {
		a.session = session
		if got := a.call(list); got.status != 404 {
			t.Errorf("a session that was ended: %+v", got)
		}
		if n := r.store.Len(); n != 1 {
			t.Errorf("%d sessions", n)
		}
		time.Sleep(25 * time.Hour)
		if n := r.store.Len(); n != 0 {
			t.Errorf("%d sessions after a day", n)
		}
	})
}

// TestStreamOutlivesTheDay holds that a session with an open stream is in use, however long nothing comes: its record outlives the day.
func TestStreamOutlivesTheDay(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		other := newAgent(t, r.up)
		other.open(mcp.Version20251125)
		ctx, leave := context.WithCancel(t.Context())
		_, _ = a.get(ctx, "")
		time.Sleep(100 * time.Hour)
		if n := r.store.Len(); n != 1 {
			t.Errorf("%d sessions", n)
		}
		if got := a.call(list); got.failure != nil || got.status != 200 {
			t.Errorf("after days: %+v", got)
		}
		leave()
		time.Sleep(25 * time.Hour)
		if n := r.store.Len(); n != 0 {
			t.Errorf("%d sessions a day after the stream", n)
		}
	})
}

// TestOverlap holds that a daemon which drains leaves its last sessions to the one that takes its place, and takes none of that one's.
func TestOverlap(t *testing.T) {
	o := options{path: filepath.Join(t.TempDir(), "sessions")}
	x := &scripted{}
	world(t, x, o, func(t *testing.T, old *rig, a *agent) {
		a.open(mcp.Version20251125)
		a.call(toolCall(1, "count", ""))
		old.store.Drain()
		next := streamable.NewStore(streamable.StoreOptions{Path: o.path})
		file, err := os.ReadFile(o.path)
		if err != nil || !strings.Contains(string(file), a.session) || !strings.Contains(string(file), `"State":true`) {
			t.Errorf("of the last moment there is %s, %v", file, err)
		}
		next.Close()
		a.session = ""
		a.open(mcp.Version20251125) // where it had a connection still
		old.store.Close()
		if file, _ := os.ReadFile(o.path); !strings.Contains(string(file), a.session) {
			t.Error("a session of the drain is lost, and nobody else has written the file")
		}
	})
	world(t, x, o, func(t *testing.T, old *rig, a *agent) {
		old.store.Drain()
		before, err := os.ReadFile(o.path)
		if err != nil {
			t.Fatal(err)
		}
		next := streamable.NewStore(streamable.StoreOptions{Path: o.path, Waits: true})
		next.Drain()
		next.Close()
		if file, _ := os.ReadFile(o.path); !bytes.Equal(file, before) {
			t.Errorf("one that waits has written: %s", file)
		}
	})
}

// TestFileFaults holds that a file which cannot be used is said, dropped, and no failure.
func TestFileFaults(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sessions")
	x := &scripted{}
	world(t, x, options{path: path}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		r.store.Close()
	})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		said    bool
	}{
		"as it was":      {string(good), 0o600, false},
		"truncated":      {string(good[:len(good)/2]), 0o600, true},
		"empty":          {"", 0o600, true},
		"another format": {strings.Replace(string(good), `"Format":1`, `"Format":2`, 1), 0o600, true},
		"no form":        {strings.Replace(string(good), `"Form":0`, `"Form":7`, 1), 0o600, true},
		"open to others": {string(good), 0o644, true},
	} {
		t.Run(name, func(t *testing.T) {
			one := filepath.Join(t.TempDir(), "sessions")
			if err := errors.Join(os.WriteFile(one, []byte(c.content), 0o600), os.Chmod(one, c.mode)); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			world(t, x, options{path: one, log: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, r *rig, a *agent) {
				if n := r.store.Len(); (n == 0) != c.said || strings.Contains(log.String(), "cannot be used") != c.said {
					t.Errorf("%d sessions; said %q", n, log.String())
				}
				a.open(mcp.Version20251125)
				r.store.Close()
			})
		})
	}
}
