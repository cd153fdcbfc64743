package dispatch_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/mcp"
)

// ledger counts what was given to calls and what came back, which neither an Admission nor a Breaker does.
type ledger struct{ slots, left, allowed, reported int }

// strictAdmission and strictBreaker keep a ledger. They are used by one goroutine.
type (
	strictAdmission struct {
		*admission.Admission
		*ledger
	}
	strictBreaker struct {
		dispatch.Breaker
		*ledger
	}
)

func (a strictAdmission) Enter(ctx context.Context, c *mcp.Call) (func(), time.Duration, *mcp.Failure) {
	leave, waited, f := a.Admission.Enter(ctx, c)
	if leave == nil {
		return nil, waited, f
	}
	a.slots++
	return func() { a.left++; leave() }, waited, f
}

func (b strictBreaker) Allow(early bool) (uint64, bool, bool) {
	ticket, probe, ok := b.Breaker.Allow(early)
	if ok {
		b.allowed++
	}
	return ticket, probe, ok
}

func (b strictBreaker) Report(ticket uint64, err error) {
	b.reported++
	b.Breaker.Report(ticket, err)
}

// TestOnce: whatever comes of a call, and whether its answer is read or thrown away, its slot is left once, and each time that the
// breaker allowed it is reported once; of a call that was sent again to the same endpoint only the last.
func TestOnce(t *testing.T) {
	for _, e := range slices.Concat(goodEndings, badEndings, noEndings) {
		for _, again := range []int{0, 1} {
			for _, whole := range []bool{true, false} {
				for _, open := range []bool{true, false} {
					synctest.Test(t, func(t *testing.T) {
						var l ledger
						b := newBreaker(0, 3)
						server := newServer(e.play)
						s := dispatch.New(complete(dispatch.Options{
							Endpoints: []dispatch.Endpoint{{Caller: server, Breaker: strictBreaker{b, &l}}},
							Admission: strictAdmission{admission.New(admission.Options{Upstream: "files", MaxInFlight: 1}), &l},
							Retry:     dispatch.RetryOptions{Max: again, Budget: 1},
						}))
						if open {
							fall(b)
							pass(time.Second) // the call is the probe
						}
						res, err := s.Call(t.Context(), post(readBody, "Mcp-Session-Id", "s"))
						if err == nil {
							if whole {
								_ = read(t, res)
							}
							_ = res.Close()
						}
						sent, _ := server.sent()
						if l.slots != 1 || l.left != 1 || l.allowed != sent || l.reported != 1 {
							t.Errorf("%s, again %d, read %v, open %v: sent %d times, %+v", e.name, again, whole, open, sent, l)
						}
					})
				}
			}
		}
	}
}
