package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/tier"
)

func TestRemovesGarbage(t *testing.T) {
	s := commonPostgres(t)
	tier := open(t, s, nil)
	defer closeTier(t, tier)
	for _, garbage := range []string{
		`''`, `'\x01'`, `decode(repeat('00', 500), 'hex')`, `decode(repeat('a7', 70000), 'hex')`, `substring(value FROM 1 FOR octet_length(value) - 1)`,
		`value || '\x00'`, `substring(value FROM 1 FOR 20)`, `set_byte(value, 13, 200)`, `set_byte(value, 0, 2)`, `set_byte(value, 0, 9)`, `set_byte(value, 5, 1)`,
	} {
		e := newEntry()
		store(t, tier, e, []byte(strings.Repeat("good ", 1000)))
		s.exec("UPDATE fluentd_perf_entries SET value = " + garbage)
		wantNone(t, tier, e)
		if n := s.number("SELECT count(*) FROM fluentd_perf_entries"); n != 0 {
			t.Errorf("%s: %d entries are left", garbage, n)
		}
	}
	s.exec(`INSERT INTO fluentd_perf_entries VALUES ('', 9e15, ''), ('short', 9e15, 'x'); INSERT INTO fluentd_perf_tokens VALUES ('', 0, 0), ('\x30', 1, 1)`)
	e := newEntry()
	store(t, tier, e, []byte("x"))
	s.exec("UPDATE fluentd_perf_tokens SET token = 0")
	if _, token := read(t, tier, e); token == 0 {
		t.Error("a token of 0")
	}
	if !works(t, tier) {
		t.Error("it does not work")
	}
}

func TestMalformedNotifications(t *testing.T) {
	s := commonPostgres(t)
	told := new(counter)
	tier := open(t, s, func(o *postgres.Options) { o.Listener = told.listener() })
	defer closeTier(t, tier)
	for i, text := range []string{"", "2", "1AAAA", "2!!!", "2AAAA", "hello"} {
		s.exec(fmt.Sprintf(`NOTIFY "fluentd_perf_0123abcd", '%s'`, text))
		eventually(t, "everything may be stale", func() bool { return told.lost.Load() == int64(i+1) })
	}
	if told.bumped.Load() != 0 {
		t.Error("what is malformed was taken for a bump")
	}
}

func TestTablesGo(t *testing.T) {
	s := commonPostgres(t)
	tier := open(t, s, nil)
	defer closeTier(t, tier)
	for _, statement := range []string{
		"DROP TABLE fluentd_perf_entries", "DROP TABLE fluentd_perf_tokens", "DROP TABLE fluentd_perf_entries, fluentd_perf_tokens, fluentd_perf_schema",
		"TRUNCATE fluentd_perf_entries, fluentd_perf_tokens",
	} {
		e := newEntry()
		store(t, tier, e, []byte("old"))
		s.exec(statement)
		worksWithin(t, tier, 5*time.Second)
		wantNone(t, tier, e)
	}
}

func TestIsMadeOnce(t *testing.T) {
	s := commonPostgres(t)
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			tier, err := postgres.OpenTier(postgres.Options{URL: s.url(), Prefix: "0123abcd", Timeout: 5 * time.Second})
			if err != nil {
				t.Error(err)
				return
			}
			worksWithin(t, tier, 5*time.Second)
			if err := tier.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := s.number("SELECT count(*) FROM fluentd_perf_schema"); n != 1 {
		t.Errorf("%d versions", n)
	}
	if n := s.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'fluentd_perf%' AND relkind = 'r' AND relpersistence = 'u'"); n != 2 {
		t.Errorf("%d unlogged tables", n)
	}
}

// TestNeedsNoRightsToFindItsTables has the tables made by one user and used by another.
func TestNeedsNoRightsToFindItsTables(t *testing.T) {
	s := commonPostgres(t)
	log := &lines{}
	role := "guest_of_" + s.database // roles are the server's, not the database's
	s.exec("CREATE ROLE " + role + " LOGIN; REVOKE CREATE ON SCHEMA public FROM public")
	url := strings.Replace(s.url(), "test:secret", role, 1)
	reader, err := postgres.OpenTier(postgres.Options{URL: url, Prefix: "0123abcd", Timeout: 5 * time.Second, Log: log.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, reader)
	eventually(t, "it says why it cannot", func() bool { return log.Has("permission denied for schema public") })
	if works(t, reader) {
		t.Error("it works without tables")
	}
	closeTier(t, open(t, s, nil))
	s.exec("GRANT SELECT, INSERT, UPDATE, DELETE ON fluentd_perf_entries, fluentd_perf_tokens, fluentd_perf_schema TO " + role)
	worksWithin(t, reader, 5*time.Second)
}

func TestLeavesNewerTablesAlone(t *testing.T) {
	s := commonPostgres(t)
	closeTier(t, open(t, s, nil))
	s.exec("UPDATE fluentd_perf_schema SET version = 1000")
	log := &lines{}
	tier, err := postgres.OpenTier(postgres.Options{URL: s.url(), Prefix: "0123abcd", Timeout: 5 * time.Second, Log: log.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, tier)
	eventually(t, "it says why it cannot", func() bool { return log.Has("made by a newer version") })
	if _, _, err := tryRead(t.Context(), tier, newEntry()); !errors.Is(err, postgres.ErrUnavailable) {
		t.Errorf("Read: %v", err)
	}
}

func TestPrefixesShareNothing(t *testing.T) {
	s := commonPostgres(t)
	prefixes := []string{"A", "a", "ab", "b", strings.Repeat("z", 48)}
	tiers, told := make([]*postgres.Tier, len(prefixes)), make([]*counter, len(prefixes))
	e := newEntry()
	for i, prefix := range prefixes {
		told[i] = new(counter)
		tiers[i] = open(t, s, func(o *postgres.Options) { o.Prefix = prefix; o.Listener = told[i].listener() })
		defer closeTier(t, tiers[i])
		wantNone(t, tiers[i], e)
		store(t, tiers[i], e, []byte("of "+prefix))
	}
	another := open(t, s, func(o *postgres.Options) { o.Prefix = prefixes[1] })
	defer closeTier(t, another)
	wantNone(t, another, newEntry())
	if err := another.Bump(t.Context(), []tier.Generation{e.Generation}); err != nil {
		t.Fatal(err)
	}
	if err := tiers[2].Delete(t.Context(), []tier.Key{e.Key}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bump is told", func() bool { return told[1].bumped.Load() == 1 })
	for i, prefix := range prefixes {
		if i == 1 || i == 2 {
			wantNone(t, tiers[i], e)
		} else {
			wantValue(t, tiers[i], e, "of "+prefix)
		}
		if i != 1 && told[i].bumped.Load() != 0 {
			t.Errorf("prefix %q was told of another one's bump", prefix)
		}
	}
}

func TestDeletesWhatHasExpired(t *testing.T) {
	s := commonPostgres(t)
	tier := open(t, s, func(o *postgres.Options) { o.Sweep = 20 * time.Millisecond })
	defer closeTier(t, tier)
	other := open(t, s, func(o *postgres.Options) { o.Prefix = "other" })
	defer closeTier(t, other)
	others := newEntry()
	store(t, other, others, noise(50_000))
	for range 30 {
		if err := tryStore(t.Context(), tier, newEntry(), noise(1000), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	if err := tryStore(t.Context(), tier, newEntry(), []byte("last"), 3*time.Hour); err != nil {
		t.Fatal(err)
	}
	s.exec("UPDATE fluentd_perf_tokens SET used = 1 WHERE generation LIKE '0123abcd%'")
	eventually(t, "what has expired and unused tokens are gone", func() bool {
		return s.number("SELECT count(*) FROM fluentd_perf_entries WHERE expires < extract(epoch FROM now()) * 1000") == 0 &&
			s.number("SELECT count(*) FROM fluentd_perf_tokens WHERE used = 1") == 0
	})
	if s.number("SELECT count(*) FROM fluentd_perf_entries WHERE octet_length(value) < 100") != 1 {
		t.Error("what has not expired is gone")
	}
	if value, _ := read(t, other, others); len(value) != 50_000 {
		t.Error("another prefix's entry is gone")
	}
}
