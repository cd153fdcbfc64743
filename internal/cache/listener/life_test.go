package listener

import (
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

func TestAnIdlePartition(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		r.Stored(modernCall("u"), partitionOf(1))
		r.Stored(modernCall(""), partitionOf(2))
		r.at(5*time.Minute - 1)
		r.Touched(partitionOf(1))
		r.wantOpen(2)
		r.at(5 * time.Minute)
		r.wantOpen(1)
		r.at(10*time.Minute - 2)
		r.wantOpen(1)
		r.at(10*time.Minute - 1)
		r.wantOpen(0)
		r.Touched(partitionOf(1)) // a request alone opens nothing
		r.at(11 * time.Minute)
		r.wantOpen(0)
		r.Stored(modernCall(""), partitionOf(1))
		r.wantOpen(1) // and only for what is stored anew
		if uris := urisOf(t, r.server.lastCall(t, "listen")); uris != nil {
			t.Errorf("subscribed to is %q still", uris)
		}
		if n := r.partitions(); n != 1 {
			t.Errorf("%d partitions are known, want 1", n)
		}
	})
}

// TestSubscriptions: they are counted with and without a stream, and not once nobody asks any more.
func TestSubscriptions(t *testing.T) {
	for name, capabilities := range map[string]string{"streams": "", "nothing announced": `{}`} {
		t.Run(name, func(t *testing.T) {
			listenerTest(t, &server{capabilities: capabilities}, func(r *rig) {
				for at, want := range []int{3, 3, 3, 3, 3, 1, 1, 0} {
					if r.at(time.Duration(at) * time.Minute); at == 0 {
						for i := range 3 {
							r.Stored(modernCall(""), partitionOf(i))
						}
						synctest.Wait()
					}
					if at == 2 {
						r.Touched(partitionOf(1))
					}
					if n := r.Subscriptions(); n != want {
						t.Errorf("after %d minutes there are %d, want %d", at, n, want)
					}
				}
			})
		})
	}
}

func TestARefusedPartition(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		for i := range 2 {
			r.Stored(modernCall("u"), partitionOf(i))
		}
		r.wantOpen(2)
		r.Refused(partitionOf(0))
		r.wantOpen(1)
		r.at(time.Second)
		r.Stored(modernCall("u"), partitionOf(0))
		r.wantOpen(2)
	})
}

// A stream that ends is opened again, each time later, and soon again after it has stood for 30 s.
func TestAStreamIsOpenedAgain(t *testing.T) {
	tornDown := func(s *fakeStream) {
		s.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + string(s.call.ID()) + `}}`)
	}
	for name, end := range map[string]func(s *fakeStream){
		"a break":     func(s *fakeStream) { s.end(errBroke) },
		"a clean end": func(s *fakeStream) { s.end(io.EOF) },
		"an answer": func(s *fakeStream) {
			s.say(`{"jsonrpc":"2.0","id":` + string(s.call.ID()) + `,"result":{"resultType":"complete"}}`)
		},
		"a late error": func(s *fakeStream) {
			s.say(acknowledged)
			s.say(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"bye"}}`)
		},
		"a cancel":    tornDown,
		"rubbish":     func(s *fakeStream) { s.say(`{"jsonrpc":"2.0",`) },
		"a failure's": func(s *fakeStream) { s.feed <- mcp.Event{Failure: errBroke}; synctest.Wait() },
	} {
		t.Run(name, func(t *testing.T) {
			listenerTest(t, &server{}, func(r *rig) {
				r.Stored(modernCall(""), partitionOf(1))
				synctest.Wait()
				// again ends the stream and returns after how long it was opened again, 30 s later.
				again := func() time.Duration {
					t.Helper()
					n, ended := len(r.server.times("listen")), time.Since(r.server.start)
					end(r.server.last(t, "listen"))
					r.wantOpen(0)
					r.at(ended + 30*time.Second)
					r.Touched(partitionOf(1))
					r.wantOpen(1)
					at := r.server.times("listen")
					if len(at) != n+1 {
						t.Fatalf("within 30 s it was opened %d times, want once", len(at)-n)
					}
					return at[n] - ended
				}
				stoodFor := func(d time.Duration) {
					at := r.server.times("listen")
					r.at(at[len(at)-1] + d)
				}
				for i, most := range []time.Duration{2, 4, 8, 16, 30, 30} {
					if d := again(); d < most*time.Second/2 || d > most*time.Second {
						t.Errorf("time %d it was opened again after %v, want %v to %v s", i, d, most/2, most)
					}
				}
				stoodFor(30*time.Second - 1)
				if d := again(); d < 15*time.Second {
					t.Errorf("after less than 30 s it was opened again after %v", d)
				}
				stoodFor(30 * time.Second)
				if d := again(); d < time.Second || d > 2*time.Second {
					t.Errorf("after 30 s it was opened again after %v", d)
				}
				if n := len(r.server.times("server/discover")); n != 1 {
					t.Errorf("it was asked what it announces %d times, want once", n)
				}
			})
		})
	}
}

func TestPausesDiffer(t *testing.T) {
	var all []time.Duration
	for range 64 {
		all = append(all, pause(4))
	}
	slices.Sort(all)
	if all[0] < 15*time.Second || all[63] > 30*time.Second || len(slices.Compact(all)) < 32 {
		t.Errorf("pauses are %v", all)
	}
	if d := pause(1 << 40); d < 15*time.Second || d > 30*time.Second {
		t.Errorf("after many failures the pause is %v", d)
	}
}

// What fails without a refusal is tried again soon: discover, and what the listen is answered with.
func TestAFailureIsTriedAgain(t *testing.T) {
	for name, answer := range map[string]func(s *fakeStream) (*mcp.Result, error){
		"no connection": func(*fakeStream) (*mcp.Result, error) { return nil, errBroke },
		"503":           func(*fakeStream) (*mcp.Result, error) { return jsonAnswer(503, "busy"), nil },
		"an end at once": func(*fakeStream) (*mcp.Result, error) {
			return jsonAnswer(200, `{"jsonrpc":"2.0","id":1,"result":{}}`), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			listenerTest(t, &server{listen: answer}, func(r *rig) {
				r.Stored(modernCall(""), partitionOf(1))
				r.at(2 * time.Second)
				if n := len(r.server.times("listen")); n != 2 {
					t.Errorf("within 2 s it was tried %d times, want 2", n)
				}
				r.server.change(func() { r.server.listen = nil })
				r.at(time.Minute)
				r.wantOpen(1)
			})
		})
	}
}
