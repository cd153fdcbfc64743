// Calls at once are sent in few arrays, and never in one with another credential's.

package rpc

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
)

// TestThousandCallsInTenArrays: 1,000 calls at once, each a POST of its own, and one array of 1,000, go to a server that
// takes arrays of 100 in ten of them each, and everybody gets the answer to what it asked.
func TestThousandCallsInTenArrays(t *testing.T) {
	s := startRPC(t)
	c := rpcConf(s, "batch: {max: 100, window: 1s}")
	c.Plain = true
	d := harness.Start(t, c)
	a := d.Agent(t)
	t.Run("calls", func(t *testing.T) {
		full := slices.Repeat([]int{100}, 10)
		for try := range 5 { // a machine may be so slow that a hundred calls take longer than a window
			keys := keysOf(fmt.Sprint("call-", try), 1000)
			s.allRight(t, keys, callAtOnce(t, a, "s", "get", keys), "")
			arrays, singles := s.seen()
			if slices.Equal(sizes(arrays), full) && len(singles) == 0 {
				return
			}
			t.Logf("arrays of %v, %d calls by themselves", sizes(arrays), len(singles))
		}
		t.Error("never ten arrays of 100")
	})
	t.Run("array", func(t *testing.T) {
		keys := keysOf("element", 1000)
		s.allRight(t, keys, arrayOf(t, a, "get", keys), "")
		arrays, singles := s.seen()
		if !slices.Equal(sizes(arrays), slices.Repeat([]int{100}, 10)) || len(singles) > 0 {
			t.Errorf("arrays of %v, %d calls by themselves", sizes(arrays), len(singles))
		}
	})
	if n := d.Scrape()[`fluentd_perf_batch_size_count{upstream="s"}`]; n < 20 {
		t.Errorf("%v arrays are counted", n)
	}
}

// allRight fails the test unless each key has its own answer and was worked on once.
func (s *rpcServer) allRight(t *testing.T, keys []string, got map[string]harness.RPCAnswer, whose string) {
	t.Helper()
	for _, key := range keys {
		if v := valueOf(got[key]); v.Key != key || v.Whose != whose || s.runs(key) != 1 {
			t.Fatalf("%s: %s %+v, worked on %d times", key, got[key].Result, got[key].Error, s.runs(key))
		}
	}
}

// arrayOf asks for each key in one array.
func arrayOf(t *testing.T, a *harness.Agent, method string, keys []string, fields ...string) map[string]harness.RPCAnswer {
	t.Helper()
	requests := make([]string, len(keys))
	for i, key := range keys {
		requests[i] = rpcRequest(fmt.Sprint(i), method, key)
	}
	answers := postArray(a, "["+strings.Join(requests, ",")+"]", fields...).Answers(t)
	if len(answers) != len(keys) {
		t.Fatalf("%d answers to %d requests", len(answers), len(keys))
	}
	got := map[string]harness.RPCAnswer{}
	for i, answer := range answers {
		if string(answer.ID) != fmt.Sprint(i) {
			t.Fatalf("answer %d has id %s", i, answer.ID)
		}
		got[keys[i]] = answer
	}
	return got
}

// TestTokensNeverShareAnArray: calls and arrays of several agents, each with a token of its own and one with none, come at
// once. No array has calls of two.
func TestTokensNeverShareAnArray(t *testing.T) {
	t.Parallel()
	s := startRPC(t)
	d := harness.Start(t, rpcConf(s, "batch: {max: 10, window: 100ms}"))
	var callers sync.WaitGroup
	for _, who := range []string{"ada", "bob", "eve", ""} {
		a := d.Agent(t)
		var fields []string
		if who != "" {
			fields = []string{harness.Bearer(who)}
		}
		callers.Go(func() {
			keys := keysOf("single of "+who, 50)
			s.allRight(t, keys, callAtOnce(t, a, "s", "get", keys, fields...), who)
		})
		callers.Go(func() {
			keys := keysOf("element of "+who, 50)
			s.allRight(t, keys, arrayOf(t, a, "put", keys, fields...), who)
		})
	}
	callers.Wait()
	arrays, singles := s.seen()
	most := 0
	for _, p := range append(arrays, singles...) {
		for _, c := range p.calls {
			if !strings.Contains(c.Params.Key, " of "+p.token+"-") {
				t.Errorf("%s came with the token %q", c.Params.Key, p.token)
			}
		}
		most = max(most, len(p.calls))
	}
	if most < 2 || most > 10 {
		t.Errorf("the largest array has %d calls", most)
	}
}
