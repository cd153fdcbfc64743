package sqlite_test

import (
	"testing"

	"fluentd-perf/internal/cache/tier"
)

// TestReadsLeaveNothing asks for what is not there and bumps it: the table in memory has tokens for what is stored
// alone.
func TestReadsLeaveNothing(t *testing.T) {
	held := open(t, nil)
	defer closeTier(t, held)
	readNothing(t, held)
	e := newEntry()
	store(t, held, e, []byte("stored"))
	if n := held.TokensKept(); n != 1 {
		t.Errorf("%d tokens in memory, want 1", n)
	}
	if err := held.Bump(t.Context(), []tier.Generation{e.Generation, newEntry().Generation}); err != nil {
		t.Fatal(err)
	}
	wantNone(t, held, e)
	if n := held.TokensKept(); n != 0 {
		t.Errorf("%d tokens in memory after a bump, want none", n)
	}
}
