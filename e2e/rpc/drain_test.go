// A drain sends what windows hold, and ends arrays at its deadline.

package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// arrayInBackground posts an array to /rpc/s.
func arrayInBackground(a *harness.Agent, method string, keys []string) <-chan harness.BackgroundReply {
	requests := make([]string, len(keys))
	for i, key := range keys {
		requests[i] = rpcRequest(fmt.Sprint(i), method, key)
	}
	done := make(chan harness.BackgroundReply, 1)
	go func() {
		r, err := a.Send(http.MethodPost, "/rpc/s", "["+strings.Join(requests, ",")+"]")
		done <- harness.BackgroundReply{Reply: r, Err: err}
	}()
	return done
}

// TestDrainFlushesWindows: calls that wait for company leave when the daemon is told to stop, and the array that they are of is
// answered.
func TestDrainFlushesWindows(t *testing.T) {
	t.Parallel()
	s := startRPC(t)
	c := rpcConf(s, "batch: {max: 10, window: 1m}")
	c.Top = "drain: 30s"
	d := harness.Start(t, c)
	keys := keysOf("drain", 13)
	done := arrayInBackground(d.Agent(t), "put", keys)
	d.Eventually("sending the first ten", func() bool { // whichever of them came first
		runs := 0
		for _, key := range keys {
			runs += s.runs(key)
		}
		return runs == 10
	})
	begun := time.Now()
	d.Signal(syscall.SIGTERM)
	got := <-done
	if got.Err != nil {
		t.Fatal(got.Err)
	}
	for i, answer := range got.Answers(t) {
		if string(answer.ID) != fmt.Sprint(i) || valueOf(answer).Key != keys[i] || s.runs(keys[i]) != 1 {
			t.Errorf("answer %d: %s %s %+v, run %d times", i, answer.ID, answer.Result, answer.Error, s.runs(keys[i]))
		}
	}
	if code := d.Exit(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the calls waited for their window of a minute: the drain took %v", took)
	}
}

// TestDrainDeadlineOfArrays: at the deadline each call of an array is told so, with `sent` true to the facts.
func TestDrainDeadlineOfArrays(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Hang)
	c := harness.OneUpstream(s.URL(), "protocol: jsonrpc")
	c.Top = "drain: 1s\nrpc: {concurrency: 2}"
	d := harness.Start(t, c)
	done := arrayInBackground(d.Agent(t), "put", keysOf("deadline", 3))
	s.AwaitRequest(2) // the third waits its turn
	d.Signal(syscall.SIGTERM)
	got := <-done
	if got.Err != nil {
		t.Fatal(got.Err)
	}
	var answers []json.RawMessage
	if err := json.Unmarshal([]byte(got.Body), &answers); err != nil || len(answers) != 3 {
		t.Fatalf("%d %s: %v", got.Status, got.Body, err)
	}
	for i, sent := range []string{"unknown", "unknown", "no"} {
		one := harness.Reply{Header: http.Header{}, Status: http.StatusOK, Body: string(answers[i])}
		harness.CheckFailure(t, one.RPC(t), fmt.Sprint(i), "s", 1503, "draining", sent)
	}
	if code := d.Exit(6 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
