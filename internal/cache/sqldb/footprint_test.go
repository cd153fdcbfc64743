package sqldb_test

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/sqldb"
)

// readNothing asks 2,000 times for what is not there.
func readNothing(t *testing.T, tier cache.Tier) {
	t.Helper()
	lookups := make([]cache.Lookup, 500)
	for range 4 {
		for i := range lookups {
			lookups[i] = newEntry().lookup()
		}
		if _, err := tier.Read(t.Context(), lookups); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPostgresReadsLeaveNothing asks for what is not there, and stores something: there is one row of tokens, of the prefix.
// A bump adds its generation's, and no other.
func TestPostgresReadsLeaveNothing(t *testing.T) {
	s := commonPostgres(t)
	tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.Prefix = "leavesnothing" })
	defer closeTier(t, tier)
	rows := func() int64 {
		return s.number("SELECT count(*) FROM fluentd_perf_tokens WHERE generation LIKE 'leavesnothing%'")
	}
	readNothing(t, tier)
	e := newEntry()
	store(t, tier, e, []byte("stored"))
	wantValue(t, tier, e, "stored")
	if n := rows(); n != 1 {
		t.Errorf("%d rows of tokens, want 1", n)
	}
	if err := tier.Bump(t.Context(), []cache.Generation{e.generation}); err != nil {
		t.Fatal(err)
	}
	wantNone(t, tier, e)
	if n := rows(); n != 2 {
		t.Errorf("%d rows of tokens after a bump, want 2", n)
	}
}

// TestSQLiteReadsLeaveNothing asks for what is not there and bumps it: the table in memory has tokens for what is stored
// alone.
func TestSQLiteReadsLeaveNothing(t *testing.T) {
	tier := openSQLite(t, nil)
	defer closeTier(t, tier)
	readNothing(t, tier)
	e := newEntry()
	store(t, tier, e, []byte("stored"))
	if n := tier.TokensKept(); n != 1 {
		t.Errorf("%d tokens in memory, want 1", n)
	}
	if err := tier.Bump(t.Context(), []cache.Generation{e.generation, newEntry().generation}); err != nil {
		t.Fatal(err)
	}
	wantNone(t, tier, e)
	if n := tier.TokensKept(); n != 0 {
		t.Errorf("%d tokens in memory after a bump, want none", n)
	}
}

// TestPostgresEntriesDieBeforeTokens stores an entry for long: it goes before the token does that a bump makes now, so that no
// read finds it good again when that has gone. Only one who read longer ago than that could write so.
func TestPostgresEntriesDieBeforeTokens(t *testing.T) {
	s := commonPostgres(t)
	tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.Prefix, o.Sweep = "diebefore", 20*time.Millisecond })
	defer closeTier(t, tier)
	e := newEntry()
	if err := tryStore(t.Context(), tier, e, []byte("old"), 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	hours := s.number("SELECT max(expires) / 3600000 - extract(epoch FROM now())::bigint / 3600 FROM fluentd_perf_entries WHERE key LIKE 'diebefore%'")
	if hours < 24 || hours > 25 {
		t.Errorf("an entry lives for %d hours, want 25", hours)
	}
	if err := tier.Bump(t.Context(), []cache.Generation{e.generation}); err != nil {
		t.Fatal(err)
	}
	s.exec("UPDATE fluentd_perf_entries SET expires = expires - 26 * 3600000::bigint WHERE key LIKE 'diebefore%'")
	s.exec("UPDATE fluentd_perf_tokens SET used = used - 26 * 3600 WHERE generation LIKE 'diebefore_%'")
	eventually(t, "the token of the bump is gone", func() bool {
		return s.number("SELECT count(*) FROM fluentd_perf_tokens WHERE generation LIKE 'diebefore_%'") == 0
	})
	wantNone(t, tier, e)
	store(t, tier, e, []byte("new"))
	wantValue(t, tier, e, "new")
}
