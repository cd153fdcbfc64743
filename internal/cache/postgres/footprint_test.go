package postgres_test

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/tier"
)

// TestReadsLeaveNothing asks for what is not there, and stores something: there is one row of tokens, of the prefix.
// A bump adds its generation's, and no other.
func TestReadsLeaveNothing(t *testing.T) {
	s := commonPostgres(t)
	held := open(t, s, func(o *postgres.Options) { o.Prefix = "leavesnothing" })
	defer closeTier(t, held)
	rows := func() int64 {
		return s.number("SELECT count(*) FROM fluentd_perf_tokens WHERE generation LIKE 'leavesnothing%'")
	}
	readNothing(t, held)
	e := newEntry()
	store(t, held, e, []byte("stored"))
	wantValue(t, held, e, "stored")
	if n := rows(); n != 1 {
		t.Errorf("%d rows of tokens, want 1", n)
	}
	if err := held.Bump(t.Context(), []tier.Generation{e.Generation}); err != nil {
		t.Fatal(err)
	}
	wantNone(t, held, e)
	if n := rows(); n != 2 {
		t.Errorf("%d rows of tokens after a bump, want 2", n)
	}
}

// TestEntriesDieBeforeTokens stores an entry for long: it goes before the token does that a bump makes now, so that no
// read finds it good again when that has gone. Only one who read longer ago than that could write so.
func TestEntriesDieBeforeTokens(t *testing.T) {
	s := commonPostgres(t)
	held := open(t, s, func(o *postgres.Options) { o.Prefix, o.Sweep = "diebefore", 20*time.Millisecond })
	defer closeTier(t, held)
	e := newEntry()
	if err := tryStore(t.Context(), held, e, []byte("old"), 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	hours := s.number("SELECT max(expires) / 3600000 - extract(epoch FROM now())::bigint / 3600 FROM fluentd_perf_entries WHERE key LIKE 'diebefore%'")
	if hours < 24 || hours > 25 {
		t.Errorf("an entry lives for %d hours, want 25", hours)
	}
	if err := held.Bump(t.Context(), []tier.Generation{e.Generation}); err != nil {
		t.Fatal(err)
	}
	s.exec("UPDATE fluentd_perf_entries SET expires = expires - 26 * 3600000::bigint WHERE key LIKE 'diebefore%'")
	s.exec("UPDATE fluentd_perf_tokens SET used = used - 26 * 3600 WHERE generation LIKE 'diebefore_%'")
	eventually(t, "the token of the bump is gone", func() bool {
		return s.number("SELECT count(*) FROM fluentd_perf_tokens WHERE generation LIKE 'diebefore_%'") == 0
	})
	wantNone(t, held, e)
	store(t, held, e, []byte("new"))
	wantValue(t, held, e, "new")
}
