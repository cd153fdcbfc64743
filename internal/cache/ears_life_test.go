package cache

import (
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

func TestEarsCloseAnIdlePartition(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		r.stored(earCall("u"), earAsker(1))
		r.stored(earCall(""), earAsker(2))
		r.at(5*time.Minute - 1)
		r.touched(earAsker(1))
		r.wantStanding(3)
		r.at(5 * time.Minute)
		r.wantStanding(2)
		r.at(10*time.Minute - 2)
		r.wantStanding(2)
		r.at(10*time.Minute - 1)
		r.wantStanding(0)
		r.touched(earAsker(1)) // a request alone opens nothing
		r.at(11 * time.Minute)
		r.wantStanding(0)
		r.stored(earCall(""), earAsker(1))
		r.wantStanding(1) // and only what is asked for anew
		if n := len(*r.known.Load()); n != 1 {
			t.Errorf("%d partitions are known, want 1", n)
		}
	})
}

func TestEarsCloseARefusedPartition(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		for i := range 2 {
			r.stored(earCall("u"), earAsker(i))
		}
		r.wantStanding(4)
		r.refused(earAsker(0))
		r.wantStanding(2)
		r.at(time.Second)
		r.stored(earCall("u"), earAsker(0))
		r.wantStanding(4)
	})
}

// A stream that ends is opened again, each time later, and soon again after it has stood for 30 s.
func TestEarsOpenAStreamAgain(t *testing.T) {
	tornDown := func(s *earStream) {
		s.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + string(s.call.ID()) + `}}`)
	}
	for name, end := range map[string]func(s *earStream){
		"a break":     func(s *earStream) { s.end(errEarBroke) },
		"a clean end": func(s *earStream) { s.end(io.EOF) },
		"an answer": func(s *earStream) {
			s.say(`{"jsonrpc":"2.0","id":` + string(s.call.ID()) + `,"result":{"resultType":"complete"}}`)
		},
		"a late error": func(s *earStream) {
			s.say(acknowledged)
			s.say(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"bye"}}`)
		},
		"a cancel":    tornDown,
		"rubbish":     func(s *earStream) { s.say(`{"jsonrpc":"2.0",`) },
		"a failure's": func(s *earStream) { s.feed <- mcp.Event{Failure: errEarBroke}; synctest.Wait() },
	} {
		t.Run(name, func(t *testing.T) {
			earTest(t, &earServer{}, func(r *earRig) {
				r.stored(earCall(""), earAsker(1))
				synctest.Wait()
				// again ends the stream and returns after how long it was opened again, 30 s later.
				again := func() time.Duration {
					t.Helper()
					n, ended := len(r.server.times("lists")), time.Since(r.server.start)
					end(r.server.last(t, "lists"))
					r.wantStanding(0)
					r.at(ended + 30*time.Second)
					r.touched(earAsker(1))
					r.wantStanding(1)
					at := r.server.times("lists")
					if len(at) != n+1 {
						t.Fatalf("within 30 s it was opened %d times, want once", len(at)-n)
					}
					return at[n] - ended
				}
				stoodFor := func(d time.Duration) {
					at := r.server.times("lists")
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
					t.Errorf("it was asked what is allowed %d times, want once", n)
				}
			})
		})
	}
}

func TestEarsPausesDiffer(t *testing.T) {
	var all []time.Duration
	for range 64 {
		all = append(all, earPause(4))
	}
	slices.Sort(all)
	if all[0] < 15*time.Second || all[63] > 30*time.Second || len(slices.Compact(all)) < 32 {
		t.Errorf("pauses are %v", all)
	}
	if d := earPause(1 << 40); d < 15*time.Second || d > 30*time.Second {
		t.Errorf("after many failures the pause is %v", d)
	}
}

// What fails without a refusal is tried again soon: discover, and what the listen is answered with.
func TestEarsTryAgainAfterAFailure(t *testing.T) {
	for name, answer := range map[string]func(s *earStream) (*mcp.Result, error){
		"no connection": func(*earStream) (*mcp.Result, error) { return nil, errEarBroke },
		"503":           func(*earStream) (*mcp.Result, error) { return earJSON(503, "busy"), nil },
		"an end at once": func(*earStream) (*mcp.Result, error) {
			return earJSON(200, `{"jsonrpc":"2.0","id":1,"result":{}}`), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			earTest(t, &earServer{listen: answer}, func(r *earRig) {
				r.stored(earCall(""), earAsker(1))
				r.at(2 * time.Second)
				if n := len(r.server.times("lists")); n != 2 {
					t.Errorf("within 2 s it was tried %d times, want 2", n)
				}
				r.server.change(func() { r.server.listen = nil })
				r.at(time.Minute)
				r.wantStanding(1)
			})
		})
	}
}
