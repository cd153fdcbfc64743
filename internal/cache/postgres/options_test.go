package postgres_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/tier"
)

func TestOnAUnixSocket(t *testing.T) {
	s := commonPostgres(t)
	held := open(t, s, func(o *postgres.Options) {
		o.URL = fmt.Sprintf("postgres:///%s?host=%s&port=%d&user=test", s.database, s.dir, s.port)
	})
	defer closeTier(t, held)
	if !works(t, held) {
		t.Error("it does not work")
	}
}

// TestWithoutPreparedStatements is what an old PgBouncer needs.
func TestWithoutPreparedStatements(t *testing.T) {
	s := commonPostgres(t)
	for _, mode := range []string{"exec", "simple_protocol", "cache_describe", "describe_exec"} {
		held := open(t, s, func(o *postgres.Options) { o.URL += "&default_query_exec_mode=" + mode })
		e := newEntry()
		store(t, held, e, []byte(strings.Repeat(`a\'$1`, 1000)))
		wantValue(t, held, e, strings.Repeat(`a\'$1`, 1000))
		if err := held.Bump(t.Context(), []tier.Generation{e.Generation}); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		wantNone(t, held, e)
		closeTier(t, held)
	}
}

// TestNotAPostgresServer has something else listen where the server should.
func TestNotAPostgresServer(t *testing.T) {
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
	held, err := postgres.OpenTier(postgres.Options{URL: fmt.Sprintf("postgres://u:p@%s/db?sslmode=disable", l.Addr()), Prefix: "p", Timeout: tight})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, held)
	callsEnd(t, held, 2*tight)
}

func TestOptions(t *testing.T) {
	good := "postgres://user:hunter2@127.0.0.1:1/db"
	for name, opt := range map[string]postgres.Options{
		"no URL":           {},
		"another scheme":   {URL: "mysql://user:hunter2@host/db"},
		"words":            {URL: "host=a password=hunter2"},
		"a bad port":       {URL: "postgres://user:hunter2@host:x/db"},
		"a bad option":     {URL: good + "?sslmode=perhaps"},
		"a bad URL":        {URL: "postgres://user:hunter2@ho st/%zz"},
		"a bare password":  {URL: "postgres://user:hun/hunter2@host/db"},
		"another one":      {URL: "postgres://user:hun?hunter2@host/db"},
		"a bad query":      {URL: good + "?passfile=/x&hunter2"},
		"a password there": {URL: "postgres://user@host/db?password=hunter2%zz"},
		"and a bad option": {URL: "postgres://user@host/db?password=hunter2&connect_timeout=x"},
		"no certificates":  {URL: good + "?sslmode=verify-full&sslrootcert=/none"},
		"negative timeout": {URL: good, Timeout: -1},
		"a huge timeout":   {URL: good, Timeout: time.Hour},
		"a negative sweep": {URL: good, Sweep: -1},
		"a negative entry": {URL: good, MaxValue: -1},
		"a huge entry":     {URL: good, MaxValue: 1 << 30},
		"negative pool":    {URL: good, Pool: -1},
		"a huge pool":      {URL: good, Pool: 100_000},
		"negative life":    {URL: good, Lifetime: -1},
	} {
		err := opt.Validate()
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
		opt.Prefix = "p"
		if held, err := postgres.OpenTier(opt); err == nil {
			closeTier(t, held)
			t.Errorf("%s: opened", name)
		}
	}
	if err := (postgres.Options{URL: "postgres://u:p@h1:1,h2:2/db?target_session_attrs=read-write"}).Validate(); err != nil {
		t.Error(err)
	}
	for _, prefix := range []string{"", `x"; DROP`, strings.Repeat("x", 49)} {
		if held, err := postgres.OpenTier(postgres.Options{URL: good, Prefix: prefix}); err == nil {
			closeTier(t, held)
			t.Errorf("prefix %q: opened", prefix)
		}
	}
	both := postgres.Options{URL: "x", Timeout: -1}.Validate()
	if both == nil || !strings.Contains(both.Error(), "url") || !strings.Contains(both.Error(), "timeout") {
		t.Errorf("two faults: %v", both)
	}
}
