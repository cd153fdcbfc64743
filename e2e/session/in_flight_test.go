// The server dies with a call under way: the call is not sent again unless it only reads.

package session

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestCallInFlightAtTheKill: the server dies with a call in its hands, before it did the work or after. The agent gets an
// error that does not say that nothing was sent, the call is not sent again, neither then nor after the healing, and the
// first call after it is told that the session is a new one.
func TestCallInFlightAtTheKill(t *testing.T) {
	t.Parallel()
	for _, heal := range []string{"reads", "all"} {
		for ran, form := range []string{"nothing done", "answer lost"} {
			for shape, begin := range map[string]func(*mcptest.Exchange){
				"no byte of an answer": func(*mcptest.Exchange) {},
				"half of a JSON answer": func(x *mcptest.Exchange) {
					x.Write(mcptest.Head(200, "application/json", "Content-Length: 100") + `{"jsonrpc":"2.0",`)
				},
				"a stream without ids": func(x *mcptest.Exchange) { x.Stream().Event(harness.ProgressMessage) },
			} {
				t.Run(strings.Join([]string{heal, form, shape}, "/"), func(t *testing.T) {
					t.Parallel()
					f, d := runHealing(t, heal)
					k := beginSession(t, d)
					arrived := f.holdCalls(ran, begin)
					var wg sync.WaitGroup
					var got harness.Reply
					inFlight := k.as()
					wg.Go(func() { got = inFlight.call("in flight") })
					<-arrived
					f.die()
					wg.Wait()
					f.onCall(nil)
					f.Up()

					harness.CheckFailure(t, lastAnswer(t, got), fmt.Sprint(inFlight.asks), "s", 1502, "broke_off", "unknown yes")
					k.right(k.list())
					if heal == "reads" {
						k.told(k.call("first"))
					}
					k.right(k.call("second"))
					if n := f.runs("in flight"); n != ran {
						t.Errorf("the call ran %d times, want %d", n, ran)
					}
					if n := f.saw("tools/call"); n != 2 {
						t.Errorf("the server got %d tools/call, want the one in flight and the last", n)
					}
				})
			}
		}
	}
}

// holdCalls has calls answered by how it begins and then nothing, once the work was done so many times. What it returns
// gets a value for each call that has come so far.
func (f *sessionServer) holdCalls(runs int, begin func(*mcptest.Exchange)) <-chan struct{} {
	arrived := make(chan struct{}, 16)
	f.onCall(func(x *mcptest.Exchange) {
		begin(x)
		for range runs {
			f.run("in flight")
		}
		arrived <- struct{}{}
		x.Hang()
	})
	return arrived
}

// lastAnswer is the answer in a body or at the end of a stream.
func lastAnswer(t *testing.T, r harness.Reply) harness.RPCAnswer {
	t.Helper()
	if r.Status != http.StatusOK {
		t.Fatalf("got %d %s", r.Status, r.Body)
	}
	return r.RPC(t)
}

// TestReadInFlightAtTheKill: nothing is lost by asking again, once the server is back.
func TestReadInFlightAtTheKill(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	f.Once(func(x *mcptest.Exchange) {
		f.forget()
		x.Reset()
	})
	k.right(k.list())
	if n := f.saw("initialize"); n != 2 {
		t.Errorf("%d initialize, want 2", n)
	}
}

// TestResumedCallOfLostSession: a call's stream with event ids ends with the server. The agent asks for the rest and is
// told that it is lost, once; the call is not run again.
func TestResumedCallOfLostSession(t *testing.T) {
	t.Parallel()
	for ran, form := range []string{"nothing done", "answer lost"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			k := beginSession(t, d)
			arrived := f.holdCalls(ran, func(x *mcptest.Exchange) {
				st := x.Stream()
				st.Raw("id: call-1\ndata: \n\n")
				st.Event(harness.ProgressMessage, "id: call-2")
			})
			inFlight := k.as()
			l := inFlight.Listen(http.MethodPost, "/mcp/s", callBody(9001, "in flight"), k.with()...)
			<-arrived
			for _, id := range []string{"call-1", "call-2"} {
				if e := l.Next(); e.ID != id {
					t.Fatalf("got %+v, want the event %s", e, id)
				}
			}
			f.die()
			l.CleanEnd(harness.MaxWait)

			rest := inFlight.GetStream(k.with("Last-Event-ID: call-2")...) // accepted though the server is away
			rest.StillOpen()
			f.onCall(nil)
			f.Up()
			e := rest.Next()
			r := harness.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: e.Data}
			harness.CheckFailure(t, r.RPC(t), "9001", "s", 1502, "session_lost", "unknown")
			rest.CleanEnd(harness.MaxWait)

			again := k.Must(http.MethodGet, "/mcp/s", "", k.with("Last-Event-ID: call-2")...)
			if again.Status != http.StatusMethodNotAllowed {
				t.Errorf("asked once more: %d %s, want 405", again.Status, again.Body)
			}
			k.right(k.list())
			k.told(k.call("first"))
			k.right(k.call("second"))
			if n := f.runs("in flight"); n != ran {
				t.Errorf("the call ran %d times, want %d", n, ran)
			}
		})
	}
}

func callBody(id int, token string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"work","arguments":{"token":%q}}}`, id, token)
}

// TestAnswerToLostServer: the server had asked the agent something before it lost the session. The agent's answer is taken
// and goes nowhere, whether it finds the session healed or meets the loss itself: the new session's ids may be the same and
// mean something else.
func TestAnswerToLostServer(t *testing.T) {
	t.Parallel()
	for _, healed := range []bool{true, false} {
		t.Run(fmt.Sprint("healed before: ", healed), func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			k := beginSession(t, d)
			const question = `{"jsonrpc":"2.0","id":"q-1","method":"roots/list"}`
			arrived := f.holdCalls(0, func(x *mcptest.Exchange) { x.Stream().Event(question) })
			l := k.as().Listen(http.MethodPost, "/mcp/s", callBody(9001, "asks back"), k.with()...)
			<-arrived
			if e := l.Next(); e.Data != question {
				t.Fatalf("got %+v, want the server's question", e)
			}
			f.onCall(nil)
			f.restart()
			if e := l.Next(); !strings.Contains(e.Data, "1502") {
				t.Errorf("got %+v, want the error of the call", e)
			}
			if healed {
				k.right(k.list())
			}
			if r := k.say(`{"jsonrpc":"2.0","id":"q-1","result":{"roots":[]}}`); r.Status != http.StatusAccepted {
				t.Errorf("the answer: %d %s, want 202", r.Status, r.Body)
			}
			k.right(k.list())
			if n := f.saw("s2 response"); n != 0 {
				t.Errorf("the new session got the answer to a question of before: %q", f.received())
			}
		})
	}
}
