//go:build !race

package flight_test

import (
	"context"
	"testing"

	"fluentd-perf/internal/batch/flight"
)

// nothing is a leader that does nothing.
type nothing struct{}

func (nothing) Lead(context.Context, context.CancelCauseFunc) flight.Outcome { return flight.Outcome{} }
func (nothing) Answer() int                                                  { return 0 }

// maxLeadAllocs is what a flight may cost that nobody joins.
const maxLeadAllocs = 6

// TestLeadAllocations holds the price, with contexts that may end. It leaves the race detector out, as the others do.
func TestLeadAllocations(t *testing.T) {
	base, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := flight.New[int, int](flight.Options{Base: base})
	got := testing.AllocsPerRun(1000, func() {
		if role, _, err := g.Do(ctx, flight.Key{}, 1, nothing{}); role != flight.Led || err != nil {
			t.Fatal(role, err)
		}
	})
	t.Logf("%v allocations", got)
	if got > maxLeadAllocs {
		t.Errorf("%v allocations, at most %d", got, maxLeadAllocs)
	}
}
