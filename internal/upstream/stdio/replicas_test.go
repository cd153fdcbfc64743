package stdio_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

// TestReplicas: calls go to the process with the least to do, more are started while all are busy, and what one process gave comes
// back to it.
func TestReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		x := &server{}
		x.on = func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			switch own := x.index(s); r.Params.Name {
			case "slow":
				go func() {
					<-release
					s.Result(r, `{"resultType":"complete"}`)
				}()
			case "task":
				s.Result(r, fmt.Sprintf(`{"resultType":"task","task":{"taskId":"task of %d"}}`, own))
			case "state":
				s.Result(r, fmt.Sprintf(`{"resultType":"input_required","requestState":"state of %d"}`, own))
			default:
				s.Result(r, fmt.Sprintf(`{"resultType":"complete","process":%d}`, own))
			}
			return true
		}
		u, pool := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) { o.Replicas = 2 })
		ask := func(params string) string {
			t.Helper()
			res, err := u.Call(t.Context(), request("1", "tools/call", params))
			if err != nil {
				t.Fatal(err)
			}
			return string(res.Body)
		}
		says := func(body string, process int) {
			t.Helper()
			if !strings.Contains(body, fmt.Sprintf(`"process":%d`, process)) {
				t.Errorf("got %s, want process %d", body, process)
			}
		}
		says(ask(`"name":"a",`), 0)
		says(ask(`"name":"a",`), 0) // nobody is busy: one process is enough
		ask(`"name":"task",`)
		ask(`"name":"state",`)
		var slow sync.WaitGroup
		slow.Go(func() { ask(`"name":"slow",`) })
		synctest.Wait()
		says(ask(`"name":"a",`), 0) // and another is started
		synctest.Wait()
		says(ask(`"name":"a",`), 1)
		says(ask(`"name":"a","requestState":"state of 0",`), 0)
		says(ask(`"name":"a","requestState":"of nobody",`), 1)
		res, err := u.Call(t.Context(), request("2", "tasks/get", `"taskId":"task of 0",`))
		if err != nil {
			t.Fatal(err)
		}
		says(string(res.Body), 0)
		close(release)
		slow.Wait()
		if n := x.started(); n != 2 {
			t.Errorf("%d processes were started, want 2", n)
		}
		x.all[0].End("exit status 1") // what it gave is nobody's any more
		synctest.Wait()
		says(ask(`"name":"a","requestState":"state of 0",`), 1)
		pool.Close()
	})
}

// TestReplicaRefused: that a second process refuses server/discover, or ends at it, while another one serves is not remembered, nor of a
// server that was modern as it is on disk; of one that is another on disk it is.
func TestReplicaRefused(t *testing.T) {
	for name, refuse := range map[string]func(s *mcptest.Stdio, r mcptest.StdioRequest){
		"ends": func(s *mcptest.Stdio, _ mcptest.StdioRequest) { s.End("exit status 1") },
		"refuses": func(s *mcptest.Stdio, r mcptest.StdioRequest) {
			s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"m"}}`+"\n", r.ID)
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { replicaRefused(t, refuse) }) })
	}
}

func replicaRefused(t *testing.T, refuse func(s *mcptest.Stdio, r mcptest.StdioRequest)) {
	release, onDisk := make(chan struct{}), "1"
	x := &server{}
	x.discover = func(s *mcptest.Stdio, r mcptest.StdioRequest) {
		if modern := []int{0, 2, 4}; !slices.Contains(modern, x.index(s)) {
			refuse(s, r)
			return
		}
		s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
	}
	x.on = func(_ *mcptest.Stdio, r mcptest.StdioRequest) bool {
		if r.Params.Name == "slow" {
			<-release
		}
		return false
	}
	u, pool := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) {
		o.Replicas, o.OnDisk = 2, func() string { return onDisk }
	})
	defer pool.Close()
	asks := func(status, started int) {
		t.Helper()
		time.Sleep(time.Minute) // the backoff is over
		if res, f := do(u, t.Context(), request("1", "tools/call", `"name":"a",`)); f != nil || res.Status != status {
			t.Errorf("%+v, %v, want status %d", res, f, status)
		}
		if n := x.started(); n != started {
			t.Fatalf("%d processes were started, want %d", n, started)
		}
	}
	second := func() { // is started while the first is busy
		var calls sync.WaitGroup
		for _, name := range []string{"slow", "a"} {
			calls.Go(func() { _, _ = u.Call(t.Context(), request("1", "tools/call", `"name":"`+name+`",`)) })
			synctest.Wait()
		}
		release <- struct{}{}
		calls.Wait()
	}
	end := func() { // of the one that serves
		x.all[x.started()-2].End("exit status 1")
		synctest.Wait()
	}
	asks(200, 1)
	second()
	end()
	asks(200, 3) // is asked: it was modern as it is on disk
	onDisk = "2"
	second()
	end()
	asks(200, 5) // is asked: another process served
	x.last().End("exit status 1")
	synctest.Wait()
	asks(404, 6)
	asks(404, 7) // is asked: as after the first
	onDisk = "3"
	asks(404, 8)
	asks(404, 8) // remembered
}

// index returns which start a process is of.
func (x *server) index(s *mcptest.Stdio) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, one := range x.all {
		if one == s {
			return i
		}
	}
	return -1
}
