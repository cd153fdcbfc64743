package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/sqldb"
)

// tight is a timeout that a call must keep even here; a call may take twice as long on a busy machine.
const tight = 250 * time.Millisecond

func tightly(o *sqldb.PostgresOptions) { o.Timeout = tight }

// ears counts what a listener hears.
type ears struct {
	lost   atomic.Int64
	bumped atomic.Int64
}

func (e *ears) listener() cache.Listener {
	return cache.Listener{
		Bumped: func(g []cache.Generation) { e.bumped.Add(int64(len(g))) },
		Lost:   func() { e.lost.Add(1) },
	}
}

// callsEnd has each kind of call end in time, whatever it says.
func callsEnd(t *testing.T, tier cache.Tier, limit time.Duration) {
	t.Helper()
	e := newEntry()
	for name, call := range map[string]func() error{
		"Read":   func() error { _, _, err := tryRead(t.Context(), tier, e); return err },
		"Write":  func() error { return tryWrite(t.Context(), tier, e, 1, []byte("x"), time.Hour) },
		"Bump":   func() error { return tier.Bump(t.Context(), []cache.Generation{e.generation}) },
		"Delete": func() error { return tier.Delete(t.Context(), []cache.Key{e.key}) },
	} {
		start := time.Now()
		if err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := time.Since(start); took > limit {
			t.Errorf("%s took %v, want at most %v", name, took, limit)
		}
	}
}

func TestPostgresMayComeLater(t *testing.T) {
	s := startPostgres(t)
	s.kill()
	heard := new(ears)
	tier, err := sqldb.OpenPostgres(sqldb.PostgresOptions{URL: s.url(), Timeout: tight, Listener: heard.listener()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, tier)
	callsEnd(t, tier, 2*tight)
	if _, _, err := tryRead(t.Context(), tier, newEntry()); !errors.Is(err, sqldb.ErrUnavailable) {
		t.Errorf("before it comes: %v", err)
	}
	s.restart()
	worksWithin(t, tier, 5*time.Second)
	if heard.lost.Load() != 0 {
		t.Error("Lost at the first connection")
	}
}

func TestPostgresCrashes(t *testing.T) {
	s := startPostgres(t)
	heard := new(ears)
	tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) { tightly(o); o.Listener = heard.listener() })
	defer closeTier(t, tier)
	e := newEntry()
	eventually(t, "an entry is stored", func() bool { return tryStore(t.Context(), tier, e, []byte("before"), time.Hour) == nil })
	_, token := read(t, tier, e)
	stop := load(t, tier)
	s.kill()
	eventually(t, "calls fail", func() bool { _, _, err := tryRead(t.Context(), tier, e); return err != nil })
	callsEnd(t, tier, 2*tight)
	s.restart()
	worksWithin(t, tier, 5*time.Second)
	if longest := stop(); longest > 4*tight {
		t.Errorf("a call took %v", longest)
	}
	// The tables came back empty: what was written before is gone, and so are its tokens.
	if err := tryWrite(t.Context(), tier, e, token, []byte("late"), time.Hour); err != nil {
		t.Fatal(err)
	}
	wantNone(t, tier, e)
	eventually(t, "the loss is told", func() bool { return heard.lost.Load() >= 1 })
}

func TestPostgresHangs(t *testing.T) {
	s := startPostgres(t)
	heard := new(ears)
	tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) { tightly(o); o.Listener = heard.listener() })
	worksWithin(t, tier, 5*time.Second)
	stop := load(t, tier)
	s.hang()
	defer s.signal(syscall.SIGCONT)
	start := time.Now()
	callsEnd(t, tier, 2*tight)
	eventually(t, "the link is cut", func() bool { callsEnd(t, tier, 2*tight); return !tier.Listening() })
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("the link was cut after %v", took)
	}
	s.signal(syscall.SIGCONT)
	worksWithin(t, tier, 5*time.Second)
	if longest := stop(); longest > 4*tight {
		t.Errorf("a call took %v", longest)
	}
	eventually(t, "the loss is told", func() bool { return heard.lost.Load() >= 1 && tier.Listening() })

	s.hang()
	callsEnd(t, tier, 2*tight)
	start = time.Now()
	closeTier(t, tier)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	s.signal(syscall.SIGCONT)
}

// TestPostgresIsSlow has another client lock the tables. The calls that gave up leave nothing behind.
func TestPostgresIsSlow(t *testing.T) {
	s := startPostgres(t)
	tier := openPostgres(t, s, tightly)
	defer closeTier(t, tier)
	worksWithin(t, tier, 5*time.Second)
	other := s.connect()
	defer other.Close(context.Background())
	if _, err := other.Exec(t.Context(), "BEGIN; LOCK TABLE fluentd_perf_entries, fluentd_perf_tokens IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		callsEnd(t, tier, 2*tight)
	}
	if n := s.number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fluentd-perf'"); n > 10 {
		t.Errorf("%d connections on the server", n)
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	worksWithin(t, tier, 5*time.Second)
	eventually(t, "nothing is left behind", func() bool {
		return s.number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fluentd-perf'") <= 5
	})
}

func TestPostgresHasNoConnectionLeft(t *testing.T) {
	s := startPostgres(t, "max_connections=12", "superuser_reserved_connections=2")
	tier := openPostgres(t, s, tightly)
	defer closeTier(t, tier)
	s.exec("CREATE ROLE guest LOGIN; SELECT 1")
	var others []*pgx.Conn
	for {
		conn, err := pgx.Connect(t.Context(), strings.Replace(s.url(), "test:secret", "test", 1))
		if err != nil {
			break
		}
		others = append(others, conn)
	}
	callsEnd(t, tier, 2*tight)
	for _, conn := range others {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	worksWithin(t, tier, 5*time.Second)
}

// TestPostgresConnectionsAreReplaced ends all of the tier's connections, as a restart of a pooler or a firewall does.
func TestPostgresConnectionsAreReplaced(t *testing.T) {
	s := startPostgres(t)
	heard := new(ears)
	tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.Listener = heard.listener() })
	defer closeTier(t, tier)
	e := newEntry()
	store(t, tier, e, []byte("kept"))
	for range 3 {
		lost := heard.lost.Load()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { _, _, _ = tryRead(t.Context(), tier, e) }) // the pool is full
		}
		group.Wait()
		s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fluentd-perf'")
		wantValue(t, tier, e, "kept") // without an error
		eventually(t, "the loss is told", func() bool { return heard.lost.Load() == lost+1 })
	}
}

func TestPostgresCallersMayLeave(t *testing.T) {
	s := startPostgres(t)
	tier := openPostgres(t, s, nil)
	defer closeTier(t, tier)
	e := newEntry()
	store(t, tier, e, []byte("x"))
	before := tier.Pool().Fresh
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_, _, _ = tryRead(ctx, tier, e)
		cancel()
	}
	if now := tier.Pool(); now.Fresh != before || now.Active != 0 || now.Open < 1 || now.Reused < 1 {
		t.Errorf("%d connections made before, then %+v", before, now)
	}
}

func TestPostgresRemovesGarbage(t *testing.T) {
	s := startPostgres(t)
	tier := openPostgres(t, s, nil)
	defer closeTier(t, tier)
	for _, garbage := range []string{
		`''`, `'\x01'`, `decode(repeat('00', 500), 'hex')`, `decode(repeat('a7', 70000), 'hex')`, `substring(value FROM 1 FOR octet_length(value) - 1)`,
		`value || '\x00'`, `substring(value FROM 1 FOR 20)`, `set_byte(value, 13, 200)`, `set_byte(value, 0, 1)`, `set_byte(value, 0, 9)`, `set_byte(value, 5, 1)`,
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

func TestPostgresHearsNonsense(t *testing.T) {
	s := startPostgres(t)
	heard := new(ears)
	tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.Listener = heard.listener() })
	defer closeTier(t, tier)
	for i, text := range []string{"", "1", "2AAAA", "1!!!", "1AAAA", "hello"} {
		s.exec(fmt.Sprintf(`NOTIFY "fluentd_perf_0123abcd", '%s'`, text))
		eventually(t, "everything may be old", func() bool { return heard.lost.Load() == int64(i+1) })
	}
	if heard.bumped.Load() != 0 {
		t.Error("nonsense was heard as a bump")
	}
}

func TestPostgresTablesGo(t *testing.T) {
	s := startPostgres(t)
	tier := openPostgres(t, s, nil)
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

func TestPostgresIsMadeOnce(t *testing.T) {
	s := startPostgres(t)
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			tier, err := sqldb.OpenPostgres(sqldb.PostgresOptions{URL: s.url(), Timeout: 5 * time.Second})
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

// TestPostgresNeedsNoRightsToFindItsTables has the tables made by one user and used by another.
func TestPostgresNeedsNoRightsToFindItsTables(t *testing.T) {
	s := startPostgres(t)
	log := &lines{}
	s.exec("CREATE ROLE guest LOGIN; REVOKE CREATE ON SCHEMA public FROM public")
	url := strings.Replace(s.url(), "test:secret", "guest", 1)
	guest, err := sqldb.OpenPostgres(sqldb.PostgresOptions{URL: url, Timeout: 5 * time.Second, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, guest)
	eventually(t, "it says why it cannot", func() bool { return log.has("permission denied for schema public") })
	if works(t, guest) {
		t.Error("it works without tables")
	}
	closeTier(t, openPostgres(t, s, nil))
	s.exec("GRANT SELECT, INSERT, UPDATE, DELETE ON fluentd_perf_entries, fluentd_perf_tokens, fluentd_perf_schema TO guest")
	worksWithin(t, guest, 5*time.Second)
}

func TestPostgresLeavesNewerTablesAlone(t *testing.T) {
	s := startPostgres(t)
	closeTier(t, openPostgres(t, s, nil))
	s.exec("UPDATE fluentd_perf_schema SET version = 1000")
	log := &lines{}
	tier, err := sqldb.OpenPostgres(sqldb.PostgresOptions{URL: s.url(), Timeout: 5 * time.Second, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, tier)
	eventually(t, "it says why it cannot", func() bool { return log.has("made by a newer version") })
	if _, _, err := tryRead(t.Context(), tier, newEntry()); !errors.Is(err, sqldb.ErrUnavailable) {
		t.Errorf("Read: %v", err)
	}
}

// lines is a log that can be asked.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func TestPostgresSpacesShareNothing(t *testing.T) {
	s := startPostgres(t)
	spaces := []string{"", "a", "ab", "b", strings.Repeat("z", 32)}
	tiers, heard := make([]*sqldb.Postgres, len(spaces)), make([]*ears, len(spaces))
	e := newEntry()
	for i, space := range spaces {
		heard[i] = new(ears)
		tiers[i] = openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.Space = space; o.Listener = heard[i].listener() })
		defer closeTier(t, tiers[i])
		wantNone(t, tiers[i], e)
		store(t, tiers[i], e, []byte("of "+space))
	}
	if err := tiers[1].Bump(t.Context(), []cache.Generation{e.generation}); err != nil {
		t.Fatal(err)
	}
	if err := tiers[2].Delete(t.Context(), []cache.Key{e.key}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bump is heard", func() bool { return heard[1].bumped.Load() == 1 })
	for i, space := range spaces {
		want := int64(1)
		if i == 1 || i == 2 {
			wantNone(t, tiers[i], e)
		} else {
			wantValue(t, tiers[i], e, "of "+space)
		}
		if i == 2 {
			want = 0
		}
		if stats, err := tiers[i].Stats(t.Context()); err != nil || stats.Entries != want || (stats.Bytes > 0) != (want > 0) {
			t.Errorf("space %q: %+v, %v", space, stats, err)
		}
		if i != 1 && heard[i].bumped.Load() != 0 {
			t.Errorf("space %q heard another one's bump", space)
		}
	}
}

func TestPostgresDeletesWhatHasExpiredAndWhatIsTooMuch(t *testing.T) {
	s := startPostgres(t)
	tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.Sweep = 20 * time.Millisecond; o.MaxBytes = 100_000 })
	defer closeTier(t, tier)
	other := openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.Space = "other" })
	defer closeTier(t, other)
	others := newEntry()
	store(t, other, others, noise(50_000))
	for range 30 {
		if err := tryStore(t.Context(), tier, newEntry(), noise(1000), time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	last := newEntry()
	for i := range 150 {
		if err := tryStore(t.Context(), tier, newEntry(), noise(1000), time.Hour+time.Duration(i)*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := tryStore(t.Context(), tier, last, []byte("last"), 3*time.Hour); err != nil {
		t.Fatal(err)
	}
	s.exec("UPDATE fluentd_perf_tokens SET used = 1 WHERE generation LIKE '0123abcd%'")
	eventually(t, "the space has its size, and unused tokens are gone", func() bool {
		stats, err := tier.Stats(t.Context())
		return err == nil && stats.Bytes <= 100_000 && stats.Bytes > 50_000 && stats.Evictions > 30 &&
			s.number("SELECT count(*) FROM fluentd_perf_entries WHERE expires < extract(epoch FROM now()) * 1000") == 0 &&
			s.number("SELECT count(*) FROM fluentd_perf_tokens WHERE used = 1") == 0
	})
	if s.number("SELECT count(*) FROM fluentd_perf_entries WHERE octet_length(value) < 100") != 1 {
		t.Error("what lives longest has gone first")
	}
	if value, _ := read(t, other, others); len(value) != 50_000 {
		t.Error("another space's entry is gone")
	}
}

func TestPostgresOnAUnixSocket(t *testing.T) {
	s := startPostgres(t)
	tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) {
		o.URL = fmt.Sprintf("postgres:///postgres?host=%s&port=%d&user=test", s.dir, s.port)
	})
	defer closeTier(t, tier)
	if !works(t, tier) {
		t.Error("it does not work")
	}
}

// TestPostgresWithoutPreparedStatements is what an old PgBouncer needs.
func TestPostgresWithoutPreparedStatements(t *testing.T) {
	s := startPostgres(t)
	for _, mode := range []string{"exec", "simple_protocol", "cache_describe", "describe_exec"} {
		tier := openPostgres(t, s, func(o *sqldb.PostgresOptions) { o.URL += "&default_query_exec_mode=" + mode })
		e := newEntry()
		store(t, tier, e, []byte(strings.Repeat(`a\'$1`, 1000)))
		wantValue(t, tier, e, strings.Repeat(`a\'$1`, 1000))
		if err := tier.Bump(t.Context(), []cache.Generation{e.generation}); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		wantNone(t, tier, e)
		if _, err := tier.Stats(t.Context()); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		closeTier(t, tier)
	}
}

// TestPostgresTalksNonsense has something else listen where the server should.
func TestPostgresTalksNonsense(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_ = conn.Close()
		}
	})
	defer group.Wait()
	defer l.Close()
	tier, err := sqldb.OpenPostgres(sqldb.PostgresOptions{URL: fmt.Sprintf("postgres://u:p@%s/db?sslmode=disable", l.Addr()), Timeout: tight})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, tier)
	callsEnd(t, tier, 2*tight)
}

func TestPostgresOptions(t *testing.T) {
	good := "postgres://user:hunter2@127.0.0.1:1/db"
	for name, opt := range map[string]sqldb.PostgresOptions{
		"no URL":           {},
		"another scheme":   {URL: "mysql://user:hunter2@host/db"},
		"words":            {URL: "host=a password=hunter2"},
		"a bad port":       {URL: "postgres://user:hunter2@host:x/db"},
		"a bad option":     {URL: good + "?sslmode=perhaps"},
		"a bad URL":        {URL: "postgres://user:hunter2@ho st/%zz"},
		"a space":          {URL: good, Space: `x"; DROP`},
		"a long space":     {URL: good, Space: strings.Repeat("x", 33)},
		"negative timeout": {URL: good, Timeout: -1},
		"negative size":    {URL: good, MaxBytes: -1},
		"negative pool":    {URL: good, Pool: sqldb.PostgresPool{Max: -1}},
		"a huge pool":      {URL: good, Pool: sqldb.PostgresPool{Max: 100_000}},
		"negative life":    {URL: good, Pool: sqldb.PostgresPool{Lifetime: -1}},
	} {
		err := opt.Validate()
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
		if tier, err := sqldb.OpenPostgres(opt); err == nil {
			closeTier(t, tier)
			t.Errorf("%s: opened", name)
		}
	}
	if err := (&sqldb.PostgresOptions{URL: good, Space: "0123abcd"}).Validate(); err != nil {
		t.Error(err)
	}
}
