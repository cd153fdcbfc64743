package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// arrays returns what arrays came to the session that the server calls so.
func (w *world) arrays(id string) (bodies []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c.Lane == mcp.LaneBatch && c.Header.Get("Mcp-Session-Id") == id {
			bodies = append(bodies, string(c.Body))
		}
	}
	return bodies
}

func wantArrays(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the server got the arrays %q, want %q", got, want)
	}
}

const (
	answer0      = `{"jsonrpc":"2.0","id":0,"result":{"of":"before"}}`
	answer1      = `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}`
	notification = `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`
	listRequest  = `{"jsonrpc":"2.0","id":9,"method":"tools/list"}`
)

// TestAnswersOfBeforeInArrays holds that answers to questions of before reach the new session in no array, whether the array
// comes after the healing or sets it off, and that the rest of the array does.
func TestAnswersOfBeforeInArrays(t *testing.T) {
	for name, c := range map[string]struct {
		heal session.Heal
		body string
		want []string
	}{
		"answers alone":     {session.HealReads, `[` + answer0 + `,` + answer1 + `]`, nil},
		"a notification":    {session.HealReads, `[` + answer0 + `, ` + notification + ` ,` + answer1 + `]`, []string{`[` + notification + `]`}},
		"requests":          {session.HealAll, `[` + listRequest + `,` + answer0 + `,` + notification + `]`, []string{`[` + listRequest + `,` + notification + `]`}},
		"no answers in it":  {session.HealAll, `[ ` + listRequest + ` ]`, []string{`[ ` + listRequest + ` ]`}},
		"what is no answer": {session.HealAll, `[1,` + answer0 + `]`, []string{`[1]`}},
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after the healing: %v", name, after), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					a := newAgent(t, w, c.heal)
					a.begin()
					w.restart()
					if after {
						a.list()
					}
					a.wantStatus(202, c.body)
					wantArrays(t, w.arrays("s2"), c.want...)
				})
			})
		}
	}
}

// TestAnswersOfNowInArrays holds that answers to questions of the new session pass, and that an array's answers settle what
// they answer: the next question with that id is another.
func TestAnswersOfNowInArrays(t *testing.T) {
	ask := func(id string) mcp.Event {
		return mcp.Event{Data: []byte(`[{"jsonrpc":"2.0","id":` + id + `,"method":"roots/list"},{"jsonrpc":"2.0","method":"m"}]`)}
	}
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		res := a.get(t.Context(), "")
		wantEvent(t, res, w.feed(t, 1), ask("1"))
		wantEvent(t, res, w.feed(t, 1), ask("0"))
		a.wantStatus(202, `[`+answer1+`]`)
		wantArrays(t, w.arrays("s1"), `[`+answer1+`]`)
		w.restart()
		got := next(res)
		w.feed(t, 1).events <- ask("1")
		if _, err := (<-got)(); err != nil {
			t.Fatal(err)
		}
		a.wantStatus(202, `[`+answer0+`,`+answer1+`]`)
		wantArrays(t, w.arrays("s2"), `[`+answer1+`]`)
		a.wantStatus(202, `[`+answer0+`,`+answer1+`]`) // both are answered
		wantArrays(t, w.arrays("s2"), `[`+answer1+`]`)
		closed(t, res)
	})
}

// TestLateArray holds that an array that met the loss takes no answer to the session that another request healed meanwhile,
// though that asks under the same id.
func TestLateArray(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Lane != mcp.LaneBatch {
				return nil, nil
			}
			w.before = nil
			w.mu.Unlock()
			wait(5 * time.Second)
			w.mu.Lock()
			return text(404, "late"), nil
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.wantStatus(202, `[`+answer0+`,`+notification+`]`)
		}()
		wait(time.Second)
		a.list()
		res := a.get(t.Context(), "")
		wantEvent(t, res, w.feed(t, 1), mcp.Event{Data: []byte(`{"jsonrpc":"2.0","id":0,"method":"roots/list"}`)})
		<-done
		wantArrays(t, w.arrays("s2"), `[`+notification+`]`)
		closed(t, res)
	})
}
