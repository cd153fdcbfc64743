package cache_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// TestRefusalOutlivesOlderAnswers: the server refuses a credential while an earlier call of it is under way. That one's
// 2xx says nothing any more: the credential meets the server's 401, and gets no public answer. One of a later call does.
func TestRefusalOutlivesOlderAnswers(t *testing.T) {
	for what, slow := range map[string]rulesAsk{
		"a kept answer": rulesModern("resources/list"), "one that passes": rulesModern("ping"),
		"one that is shared": rulesModern("prompts/get").with(`"name":"p"`), "a notification": rulesLegacy("").on(mcp.LaneNotification).saying(toolsChanged),
	} {
		for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
			for sent, good := range map[string]bool{"before": false, "at the same time": false, "after": true} {
				rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
					testRefusalOutlives(r, slow, status, sent, good, what+", sent "+sent)
				})
			}
		}
	}
}

func testRefusalOutlives(r *rulesRig, slow rulesAsk, status int, sent string, good bool, what string) {
	gate, refusal, refused := make(chan struct{}), make(chan struct{}), rulesModern("completion/complete").with(`"ref":{}`)
	r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
		switch {
		case c.Method() == mcp.MethodCompletionComplete:
			<-refusal
			return &mcp.Result{Status: status, Header: header.List{}, Body: []byte("no")}, nil
		case c.Method() == mcp.MethodToolsList:
			return rulesWhole(200, rulesAnswer(n, c, rulesPublic)), nil
		}
		<-gate
		return rulesWhole(200, rulesAnswer(n, c, "")), nil
	})
	list := rulesModern("tools/list")
	r.ask(list.by("b"))
	done := make(chan struct{}, 2)
	send := func(a rulesAsk) {
		go func() {
			defer func() { done <- struct{}{} }()
			res, err := r.caller.Call(r.Context(), a.call(r))
			if err != nil {
				r.Error(err)
				return
			}
			res.Close()
		}()
		synctest.Wait()
	}
	switch sent {
	case "before":
		send(slow)
		r.after(time.Millisecond)
		send(refused)
	case "at the same time": // the refusal of a call that was sent before comes after this one was sent
		send(refused)
		r.after(time.Millisecond)
		send(slow)
	}
	r.after(time.Millisecond)
	close(refusal)
	if sent == "after" {
		send(refused)
		r.after(time.Millisecond)
		send(slow)
	}
	r.after(time.Millisecond)
	close(gate)
	<-done
	<-done
	synctest.Wait()
	before := r.server.asked()
	p := r.ask(list)
	if hit := r.server.asked() == before; hit != good {
		r.Errorf("%s, %d: a public answer was given: %v, want %v (%s)", what, status, hit, good, p.status())
	}
}

// TestRefusalIsForgiven: a credential that the server takes again is good again, also while the times of the refusal and of
// the answer are close.
func TestRefusalIsForgiven(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		r.says(rulesPublic)
		first := r.asks("first", rulesModern("tools/list").by("b"))
		for range 3 {
			r.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(401, "") })
			r.ask(rulesModern("ping"))
			r.asks("refused", rulesModern("prompts/list"))
			r.after(time.Millisecond)
			r.says(rulesPublic)
			r.accept("a")
			r.hits("taken again", first.n, rulesModern("tools/list"))
		}
	})
}
