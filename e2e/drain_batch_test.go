package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

// arrayInBackground posts an array to /rpc/s.
func arrayInBackground(a *agent, method string, keys []string) <-chan backgroundReply {
	requests := make([]string, len(keys))
	for i, key := range keys {
		requests[i] = rpcRequest(fmt.Sprint(i), method, key)
	}
	done := make(chan backgroundReply, 1)
	go func() {
		r, err := a.send(http.MethodPost, "/rpc/s", "["+strings.Join(requests, ",")+"]")
		done <- backgroundReply{r, err}
	}()
	return done
}

// TestDrainFlushesWindows: calls that wait for company leave when the daemon is told to stop, and the array that they are of is
// answered.
func TestDrainFlushesWindows(t *testing.T) {
	t.Parallel()
	s := startRPC(t)
	c := rpcConf(s, "batch: {max: 10, window: 1m}")
	c.top = "drain: 30s"
	d := runSidecar(t, c)
	keys := keysOf("drain", 13)
	done := arrayInBackground(d.agent(t), "put", keys)
	d.eventually("sending the first ten", func() bool { // whichever of them came first
		runs := 0
		for _, key := range keys {
			runs += s.runs(key)
		}
		return runs == 10
	})
	begun := time.Now()
	d.signal(syscall.SIGTERM)
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	for i, answer := range got.answers(t) {
		if string(answer.ID) != fmt.Sprint(i) || answer.value().Key != keys[i] || s.runs(keys[i]) != 1 {
			t.Errorf("answer %d: %s %s %+v, run %d times", i, answer.ID, answer.Result, answer.Error, s.runs(keys[i]))
		}
	}
	if code := d.exit(10 * time.Second); code != 0 {
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
	c := one(s.URL(), "protocol: jsonrpc")
	c.top = "drain: 1s\nrpc: {concurrency: 2}"
	d := runSidecar(t, c)
	done := arrayInBackground(d.agent(t), "put", keysOf("deadline", 3))
	s.AwaitRequest(2) // the third waits its turn
	d.signal(syscall.SIGTERM)
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	var answers []json.RawMessage
	if err := json.Unmarshal([]byte(got.body), &answers); err != nil || len(answers) != 3 {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	for i, sent := range []string{"unknown", "unknown", "no"} {
		one := reply{header: http.Header{}, status: http.StatusOK, body: string(answers[i])}
		checkFailure(t, one.rpc(t), fmt.Sprint(i), "s", 1503, "draining", sent)
	}
	if code := d.exit(6 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
