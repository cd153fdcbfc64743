// The servers, each a process of its own that fails on order.

package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// chaosUpstream is one upstream of the chaos run, with its servers.
type chaosUpstream struct {
	name    string
	kind    string // of e2e/peer's faulty
	key     string // of the seals, which the servers have too
	journal string // the file in which the servers note what they did
	servers []*faultyServer
}

func (u *chaosUpstream) seal(parts ...string) string { return mcptest.Seal(u.key, parts...) }

// modern reports whether the upstream is without sessions and knows `_meta`.
func (u *chaosUpstream) modern() bool { return u.kind == "modern" }

// faultyServer is a server that may be killed, hung, restarted, and told to misbehave.
type faultyServer struct {
	*harness.TierServer
	name, journal string
}

// startFaulty starts an upstream's servers: equal replicas, if there are more than one.
func startFaulty(t testing.TB, name, kind string, servers int) *chaosUpstream {
	t.Helper()
	binary, err := harness.BuildPeer()
	if err != nil {
		t.Fatal(err)
	}
	u := &chaosUpstream{name: name, kind: strings.TrimSuffix(kind, "+changes"), key: "the key of " + name, journal: filepath.Join(t.TempDir(), "journal")}
	stdin := neverEnding(t) // they end when it does
	for i := range servers {
		s := &faultyServer{&harness.TierServer{T: t, Orderly: syscall.SIGTERM}, fmt.Sprintf("%s-%d", name, i+1), u.journal}
		s.Command = func() *exec.Cmd {
			cmd := exec.Command(binary, "faulty", kind, s.Port, u.journal, u.key)
			cmd.SysProcAttr = harness.ChildAttributes()
			cmd.Stdin = stdin
			return cmd
		}
		s.Answers = s.listens
		s.Launch()
		u.servers = append(u.servers, s)
	}
	return u
}

// neverEnding is a pipe that nobody writes to until the test ends.
func neverEnding(t testing.TB) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.Close()
		_ = r.Close()
	})
	return r
}

// listens reports whether it is this server that listens on its port, and not one of another run that was quicker to take it.
func (s *faultyServer) listens() bool {
	res, err := harness.HTTPClient.Get("http://" + s.Addr() + "/journal")
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	journal, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	return err == nil && string(journal) == s.journal
}

func (s *faultyServer) url() string { return "http://" + s.Addr() + "/mcp" }

// order tells the server how to spoil what share of the requests; an empty spoil heals it.
func (s *faultyServer) order(spoil string, share float64, late time.Duration) {
	s.T.Helper()
	body, err := json.Marshal(map[string]any{"spoil": spoil, "share": share, "ms": late.Milliseconds()})
	if err != nil {
		s.T.Fatal(err)
	}
	res, err := harness.HTTPClient.Post("http://"+s.Addr()+"/fault", "application/json", bytes.NewReader(body))
	if err != nil {
		s.T.Fatalf("%s: %v", s.name, err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		s.T.Fatalf("%s: HTTP %d", s.name, res.StatusCode)
	}
}

// urls is the upstream's `url` or `urls`.
func (u *chaosUpstream) urls() string {
	var urls []string
	for _, s := range u.servers {
		urls = append(urls, fmt.Sprintf("%q", s.url()))
	}
	if len(urls) == 1 {
		return "url: " + urls[0]
	}
	return "urls: [" + strings.Join(urls, ", ") + "]"
}

// did returns the journal. No server runs any more.
func (u *chaosUpstream) did(t testing.TB) string {
	t.Helper()
	journal, err := os.ReadFile(u.journal)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(journal)
}
