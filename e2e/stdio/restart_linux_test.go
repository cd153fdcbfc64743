package stdio

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// successor is a daemon that is replaced by others on its port and in its folders.
type successor struct {
	*harness.Daemon
	t      *testing.T
	config harness.Config
	origin string
	at     harness.Folders
}

func newSuccessor(t *testing.T, upstreams map[string]string) *successor {
	t.Helper()
	at, addr := harness.NewFolders(t), "127.0.0.1:"+harness.FreePort(t)
	s := &successor{t: t, at: at, origin: "http://" + addr}
	s.config = harness.Config{Upstreams: upstreams, Top: "drain: 20s", Args: []string{"--listen", addr}}.In(at)
	s.next()
	return s
}

func (s *successor) next() {
	s.t.Helper()
	s.Daemon = harness.Start(s.t, s.config)
}

// saved waits until the file of sessions satisfies.
func (s *successor) saved(what string, done func(file string) bool) {
	s.t.Helper()
	harness.Within(s.t, time.Second, what, func() bool {
		text, _ := os.ReadFile(filepath.Join(s.at.State, sessionsFile))
		return done(string(text))
	})
}

// worker is an agent that never stops calling.
type worker struct {
	*rawSession
	state    bool         // it calls a tool; else it lists
	answered atomic.Int64 // calls
	notices  atomic.Int64 // that its state is gone
}

// work calls until stop is closed. A daemon that is away or stopping is asked again.
func (w *worker) work(stop chan struct{}) {
	defer w.HTTP.CloseIdleConnections()
	body := `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`
	if w.state {
		body = toolCall("pid")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		r, err := w.Send(http.MethodPost, w.path, body, "Mcp-Session-Id: "+w.session)
		switch {
		case err != nil || strings.Contains(r.Body, `"reason":"draining"`):
		case strings.Contains(r.Body, `"code":1410`):
			w.notices.Add(1)
		case strings.Contains(r.Body, `"result"`):
			w.answered.Add(1)
		default:
			w.T.Errorf("%d %s", r.Status, r.Body)
			return
		}
	}
}

// TestAgentsOutliveTheDaemon: ten agents at work, five of them with state, go on when the daemon is killed, restarted, and replaced while it drains.
// Those with state hear once each time that it is gone, the others nothing.
func TestAgentsOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	mark := newMark(t)
	script := harness.WriteFile(t, "lister.sh", lister)
	d := newSuccessor(t, map[string]string{"s": fmt.Sprintf("{command: [sh, %q], env: {%s: %q}}", script, markName, mark)})
	stop, workers := make(chan struct{}), []*worker{}
	var all sync.WaitGroup
	for n := range 10 {
		w := &worker{rawSession: begin(t, d.origin, "s"), state: n < 5}
		workers = append(workers, w)
		all.Go(func() { w.work(stop) })
	}
	answered := func() {
		t.Helper()
		for n, w := range workers {
			before := w.answered.Load()
			harness.Eventually(t, fmt.Sprint("agent ", n, " at work"), func() bool { return w.answered.Load() > before+2 || t.Failed() })
		}
	}
	answered()
	d.saved("five sessions with state", func(file string) bool { return strings.Count(file, `"State":true`) == 5 })
	for changes, c := range []struct {
		signal syscall.Signal
		how    string
	}{
		{syscall.SIGKILL, "killed"}, // first: what was saved above is still so
		{syscall.SIGTERM, "restarted"},
		{syscall.SIGTERM, "replaced"},
	} {
		old := d.Daemon
		d.Signal(c.signal)
		if c.how == "replaced" {
			d.Announced(t, "(draining)")
		} else {
			<-d.Done
			wantNone(t, mark, time.Now())
		}
		d.next()
		<-old.Done
		answered()
		for n, w := range workers {
			want := int64(0)
			if w.state {
				want = int64(changes) + 1
			}
			if got := w.notices.Load(); got != want {
				t.Errorf("%s: agent %d has heard %d times that its state is gone, want %d", c.how, n, got, want)
			}
		}
	}
	close(stop)
	all.Wait()
	endsClean(t, d.Daemon, mark)
}

// TestUpgrade: a new daemon on the same state directory has the sessions of the old one while that drains, those of its last moment
// too, and the old one's end takes none of the new one's.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	mark, notes := newMark(t), t.TempDir()
	d := newSuccessor(t, map[string]string{"s": notingEntry(t, "", mark, notes)})
	calling := begin(t, d.origin, "s")
	answer := background(t, d.origin, calling.path, toolCall("waits"), "Mcp-Session-Id: "+calling.session)
	harness.Eventually(t, "a call", func() bool { _, err := os.Stat(filepath.Join(notes, "waits")); return err == nil })
	with, without, leaving := begin(t, d.origin, "s"), begin(t, d.origin, "s"), begin(t, d.origin, "s")
	with.works(false)
	d.Signal(syscall.SIGTERM)
	old := d.Daemon
	d.Announced(t, "(draining)")
	d.next()
	for _, s := range []*rawSession{with, without} {
		s.HTTP.CloseIdleConnections() // the old one serves what it has accepted
	}
	with.works(true)
	without.works(false)
	fresh := begin(t, d.origin, "s")
	fresh.works(false)
	leaving.Must(http.MethodDelete, leaving.path, "", "Mcp-Session-Id: "+leaving.session) // by its connection, to the old one
	select {
	case <-old.Done:
		t.Fatal("the old daemon has ended before its call")
	default:
	}
	if err := os.WriteFile(filepath.Join(notes, "release"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := <-answer; r.Err != nil || !strings.Contains(r.Body, `"pid":`) {
		t.Errorf("the call under way: %v %s", r.Err, r.Body)
	}
	<-old.Done // the file is the new one's from now on
	d.saved("a session of the new daemon", func(file string) bool { return strings.Contains(file, fresh.session) })
	d.Signal(syscall.SIGKILL)
	<-d.Done
	d.next()
	for _, s := range []*rawSession{with, without, fresh} {
		s.works(true)
	}
	calling.works(true)
	endsClean(t, d.Daemon, mark)
}

// TestUnusableSessions: a file of sessions that the daemon cannot use is dropped and said. An agent of one of them begins anew.
func TestUnusableSessions(t *testing.T) {
	t.Parallel()
	at := harness.NewFolders(t)
	script := harness.WriteFile(t, "lister.sh", lister)
	config := harness.Config{Upstreams: map[string]string{"s": fmt.Sprintf("{command: [sh, %q]}", script)}, Top: "drain: 1s"}
	d := harness.Start(t, config.In(at))
	s := begin(t, d.URL(""), "s")
	s.works(false)
	s.HTTP.CloseIdleConnections()
	d.Finish()
	file := filepath.Join(at.State, sessionsFile)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content string
		owner   int
		says    string // "": it is used
	}{
		"as it was":      {string(good), os.Getuid(), ""},
		"another format": {strings.Replace(string(good), `"Format":`, `"Format":9`, 1), os.Getuid(), "it has format"},
		"truncated":      {string(good[:len(good)/2]), os.Getuid(), "unexpected end"},
		"of another":     {string(good), os.Getuid() + 12345, "another user"},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(file) // which may be another user's
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(file, c.owner, -1); errors.Is(err, os.ErrPermission) {
				t.Skip("only root gives a file to another user")
			}
			d := harness.Start(t, config.In(at))
			s := *s
			s.Agent, s.T = harness.NewAgent(t, d.URL("")), t
			switch r := s.send(toolCall("pid")); {
			case c.says == "":
				harness.CheckFailure(t, r.RPC(t), "7", "s", 1410, "session_restarted", "no")
				s.works(false)
			case r.Status != http.StatusNotFound:
				t.Errorf("a session that is not known: %d %s", r.Status, r.Body)
			}
			if said := strings.Contains(d.Out.String(), "the file of stdio sessions cannot be used"); said != (c.says != "") || !strings.Contains(d.Out.String(), c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, d.Out)
			}
			begin(t, d.URL(""), "s").works(false)
			d.Finish()
		})
	}
}
